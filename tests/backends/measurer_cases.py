"""Cases that the contract suite measures, and a small recording to replay. Run as a script it
compiles the cases into a cache folder: a test process may have Triton in interpreter mode, where
nothing can be compiled."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from autotune.backends.protocol import MeasurerOptions
from autotune.backends.replay.recording_format import Recording, write_recording
from autotune.backends.selectors import open_measurer
from autotune.spec.config import AnyConfig, Config, ConfigPair
from autotune.spec.device import Device, DeviceKind, Target
from autotune.spec.measurement import Measurement, Resources
from autotune.spec.problem import Dtype, KernelMode, Problem
from autotune.studies.key import StudyKey
from autotune.studies.outcome import Outcome, TrialResult
from autotune.studies.space import Space

PROBLEM = Problem(experts=16, top_k=4, hidden=1024, intermediate=512, tokens=64)
FP8_BLOCK = replace(PROBLEM, dtype=Dtype.FP8_W8A8, block_shape=(128, 128))
SEPARATE = replace(PROBLEM, kernel=KernelMode.SEPARATE)
TILES = Config(16, 64, 64, 1, 4, 3)
MORE_TILES = Config(64, 64, 64, 8, 4, 3)
PAIR = ConfigPair(replace(MORE_TILES, use_tma=False), Config(64, 128, 64, 1, 8, 3, use_tma=True))
TOO_LARGE = Config(256, 256, 256, 1, 8, 5)
"""Two and a half megabytes of shared memory: no GPU has them."""

RECORDED = (TILES, MORE_TILES, Config(32, 64, 64, 1, 4, 3), Config(128, 64, 64, 1, 8, 3))
STOPPED, FAILED = RECORDED[2], RECORDED[3]
SAMPLES = 10

COMPILED: tuple[tuple[str, Problem, AnyConfig], ...] = (
    ("estimate:NVIDIA_H200", PROBLEM, TILES),
    ("estimate:NVIDIA_H200", PROBLEM, MORE_TILES),
    ("estimate:NVIDIA_H200", FP8_BLOCK, MORE_TILES),
    ("estimate:NVIDIA_H200", SEPARATE, PAIR),
    ("estimate:AMD_Instinct_MI300X", PROBLEM, Config(32, 32, 64, 1, 4, 2, waves_per_eu=0)),
)
"""Selector, problem, config: what tests find in the cache."""


def save_recording(path: Path) -> Path:
    """Four configs at 64 tokens: two in full, one stopped early, one that did not compile."""
    rng = np.random.default_rng(1)
    device = Device(DeviceKind.CUDA, "NVIDIA H200", Target("cuda", 90), 232448, "3.6.0", "layer")
    results: dict[AnyConfig, TrialResult] = {}
    for config in RECORDED:
        ends = {STOPPED: (Outcome.PRUNED, 2), FAILED: (Outcome.COMPILE_ERROR, 0)}
        outcome, count = ends.get(config, (Outcome.OK, SAMPLES))
        samples = tuple(np.float32(us).item() for us in rng.uniform(40, 60, count))
        measurement = Measurement(samples, "graph") if samples else None
        reason = "" if outcome is Outcome.OK else "as recorded"
        results[config] = TrialResult(outcome, measurement, reason, resources=Resources(64, 0, 512))
    key = StudyKey(PROBLEM, device, Space(RECORDED).fingerprint)
    write_recording(path, Recording({key: results}, {TILES: 1.5}, {"triton": "3.6.0"}))
    return path


def main(cache_dir: Path) -> None:
    for selector, problem, config in COMPILED:
        measurer = open_measurer(selector, MeasurerOptions(cache_dir=cache_dir))
        sys.stdout.write(f"{measurer.measure(problem, config).outcome.value}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
