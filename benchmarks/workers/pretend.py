"""autotune with a replayed GPU that takes its time, and keeps a log of what it did.

    PRETEND_MS=15 PRETEND_LOG=gpu.log python benchmarks/workers/pretend.py run --device replay:F …

Every process that it spawns imports this file as its main module, and with it the patch: a
measurement sleeps for PRETEND_MS, as a CPU does while a GPU works, and then appends to PRETEND_LOG
a line: process, begin and end in seconds (monotonic, of this machine), config. Nothing of autotune
itself knows of it.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from autotune.devices.replay import ReplayMeasurer

BATCH_SIZES = (1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 256, 512, 1024, 1536, 2048, 3072, 4096)
"""The 18 that the engines' scripts tune."""
SHAPE = "E=8,topk=2,hidden=512,intermediate=256"


def install() -> None:
    """Slow the replaying measurer of this process down."""
    seconds = float(os.environ.get("PRETEND_MS", "0")) / 1000
    log = os.environ.get("PRETEND_LOG", os.devnull)
    recorded = ReplayMeasurer.measure

    def measure(self: ReplayMeasurer, problem: Any, config: Any, **options: Any) -> Any:
        begin = time.monotonic()
        result = recorded(self, problem, config, **options)
        time.sleep(max(0.0, begin + seconds - time.monotonic()))
        line = f"{os.getpid()} {begin:.6f} {time.monotonic():.6f} M={problem.tokens} {config}\n"
        append(Path(log), line)
        return result

    ReplayMeasurer.measure = measure  # type: ignore[method-assign]


def append(path: Path, line: str) -> None:
    """One write, so that processes may share the file and be killed at any moment."""
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(handle, line.encode())
    finally:
        os.close(handle)


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
    configs = np.stack([axis.ravel() for axis in axes], axis=1).astype(np.int16)
    rng = np.random.default_rng(0)
    arrays = {}
    for tokens in batch_sizes:
        ideal = np.log2([min(16 + tokens, 128), 128, 128, 16, 4, 3])
        steps = np.abs(np.log2(configs) - ideal) @ np.array([0.2, 0.15, 0.1, 0.05, 0.1, 0.1])
        cost = (20 + tokens / 20) * (1 + steps) * (1 + 0.01 * rng.standard_normal(len(configs)))
        noise = 1 + 0.002 * rng.standard_normal((len(configs), 2, 10))
        arrays[f"M{tokens}"] = (cost[:, None, None] / 2 * noise).astype("f4")
    np.savez(path, configs=configs, **arrays)
    return path


install()

if __name__ == "__main__":
    from autotune.cli import run_command_line

    sys.exit(run_command_line(sys.argv[1:]))
