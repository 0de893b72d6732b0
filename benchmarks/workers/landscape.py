"""A recording of no real GPU, of any number of batch sizes, for runs that pretend to measure."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from autotune.spec.config import Config
from autotune.spec.problem import Problem

sys.path.insert(0, str(Path(__file__).parents[1] / "landscapes"))

from gemm_times import GemmTimes, pretended_gpu, write_gemm_times

BATCH_SIZES = (1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 256, 512, 1024, 1536, 2048, 3072, 4096)
"""The 18 that the engines' scripts tune."""
SHAPE = "E=8,topk=2,hidden=512,intermediate=256"
PROBLEM = Problem(experts=8, top_k=2, hidden=512, intermediate=256, tokens=1)


def save_landscape(path: Path, batch_sizes: tuple[int, ...], *, small: bool = False) -> Path:
    """A recording of a smooth, noisy layer: 1536 configs, or 96, at each batch size."""
    kinds = {
        "m": (16, 32, 64, 128),
        "n": (32, 64, 128, 256),
        "k": (64, 128, 256),
        "g": (1, 16, 32, 64),
        "w": (4, 8),
        "s": (2, 3, 4, 5),
    }
    if small:
        kinds |= {"m": (16, 32), "k": (64, 128), "g": (1, 16), "w": (4, 8), "s": (2, 3, 4)}
        kinds["n"] = (64, 128)
    axes = np.meshgrid(*(np.array(values) for values in kinds.values()), indexing="ij")
    configs = np.stack([axis.ravel() for axis in axes], axis=1)
    rng = np.random.default_rng(0)
    gemm_us = {}
    for tokens in batch_sizes:
        ideal = np.log2([min(16 + tokens, 128), 128, 128, 16, 4, 3])
        steps = np.abs(np.log2(configs) - ideal) @ np.array([0.2, 0.15, 0.1, 0.05, 0.1, 0.1])
        cost = (20 + tokens / 20) * (1 + steps) * (1 + 0.01 * rng.standard_normal(len(configs)))
        noise = 1 + 0.002 * rng.standard_normal((len(configs), 2, 10))
        gemm_us[tokens] = cost[:, None, None] / 2 * noise
    times = GemmTimes(tuple(Config(*row) for row in configs.tolist()), gemm_us)
    write_gemm_times(path, times, [PROBLEM], pretended_gpu(path.stem), "pretended")
    return path
