"""The file name that this project gives for a config."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from theirs import DEVICE

from autotune.engines import ENGINES
from autotune.models.load import load_shape
from autotune.models.problems import Parallelism
from autotune.spec.device import Device, DeviceKind, Target

H200 = Device(DeviceKind.CUDA, DEVICE, Target("cuda", 90), 232448, "3.6.0")


_shape = cache(load_shape)  # of thousands of patterns, in some checkpoints; asked for each split


def our_name(config_file: Path, engine_name: str, tp: int, ep: int, redundant: int = 0) -> str:
    """Return it. Raises AutotuneError where we refuse."""
    engine = ENGINES[engine_name]
    shape = _shape(str(config_file))
    parallel = Parallelism(tp_size=tp, ep_size=ep, redundant_experts=redundant)
    problem = engine.serves(shape, None, parallel, tokens=1, routing="uniform")
    return engine.file_name(problem, H200)
