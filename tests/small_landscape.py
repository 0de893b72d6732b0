"""A recording small enough to search in a second."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from gemm_times import GemmTimes, pretended_gpu, write_gemm_times

from autotune.spec.config import Config
from autotune.spec.problem import Problem

SHAPE = "E=8,topk=2,hidden=512,intermediate=256"
PROBLEM = Problem(experts=8, top_k=2, hidden=512, intermediate=256, tokens=1)


def save_landscape(
    path: Path,
    routings: tuple[str, ...] = (PROBLEM.routing,),
    layers: Sequence[Problem] = (PROBLEM,),
) -> Path:
    """A recording of 216 configs at 1 and 64 tokens; the last 40 are not there at 1 token. Times
    are the same under every routing, and of every layer."""
    rows = [
        (m, n, k, g, w, s)
        for m in (16, 32, 64)
        for n in (32, 64, 128)
        for k in (32, 64, 128)
        for g in (1, 8)
        for w in (4, 8)
        for s in (3, 4)
    ]
    configs = np.array(rows, np.int16)
    rng = np.random.default_rng(0)
    cost = 20 + np.abs(np.log2(configs) - np.log2([32, 64, 64, 8, 4, 3])).sum(axis=1)
    samples = {}
    for tokens in (1, 64):
        noise = 1 + 0.002 * rng.standard_normal((len(rows), 2, 10))
        samples[tokens] = (cost * (1 + tokens / 64))[:, None, None] / 2 * noise
    samples[1][-40:] = np.nan  # left out
    times = GemmTimes(tuple(Config(*row) for row in rows), samples)
    return save_times(path, times, routings, layers)


def save_times(
    path: Path,
    times: GemmTimes,
    routings: tuple[str, ...] = (PROBLEM.routing,),
    layers: Sequence[Problem] = (PROBLEM,),
) -> Path:
    """A recording of the same layers with other times."""
    problems = [replace(layer, routing=routing) for layer in layers for routing in routings]
    gpu = pretended_gpu(path.stem)
    write_gemm_times(path, times, problems, gpu, "pretended", keeps_failed=False)
    return path
