"""Problems, devices and configs that the engine tests share."""

from __future__ import annotations

from pathlib import Path

import pytest

from autotune.spec.config import Config
from autotune.spec.device import Device, DeviceKind, Target
from autotune.spec.problem import Dtype, Problem

SHIPPED = Path(__file__).parents[2].parent / "shared" / "engine_configs"
needs_shipped = pytest.mark.skipif(
    not SHIPPED.is_dir(), reason="the engines' shipped files are not beside this checkout"
)

SMALL = Config(16, 64, 128, 1, 4, 4)
LARGE = Config(128, 128, 64, 32, 8, 3)


def make_problem(dtype: Dtype = Dtype.BF16, **changes: object) -> Problem:
    sizes = {"experts": 8, "top_k": 2, "hidden": 4096, "intermediate": 14336, "tokens": 64}
    return Problem(**{**sizes, "dtype": dtype, **changes})


def make_device(
    name: str = "NVIDIA H200",
    triton_version: str = "3.6.0",
    *,
    arch: int | str = 90,
    shared_bytes: int = 232448,
) -> Device:
    target = Target("cuda", arch) if isinstance(arch, int) else Target("hip", arch, 64)
    return Device(DeviceKind.CUDA, name, target, shared_bytes, triton_version)


H200 = make_device()
MI300X = make_device("AMD Instinct MI300X", arch="gfx942", shared_bytes=65536)
BLOCK_FP8 = make_problem(Dtype.FP8_W8A8, block_shape=(128, 128))
