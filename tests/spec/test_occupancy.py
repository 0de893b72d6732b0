from __future__ import annotations

import pytest

from autotune.spec.config import Config, ConfigPair
from autotune.spec.device import Device, DeviceKind, Target
from autotune.spec.measurement import CompileFailure, Resources
from autotune.spec.occupancy import blocks_per_sm, held_blocks


def gpu(arch: int | str, shared_bytes: int) -> Device:
    is_amd = isinstance(arch, str)
    target = Target("hip", arch, 64) if is_amd else Target("cuda", arch)
    return Device(DeviceKind.CUDA, "some GPU", target, shared_bytes, "3.6.0")


H200, A100, L40S = gpu(90, 232448), gpu(80, 166912), gpu(89, 101376)
MI300X = gpu("gfx942", 65536)


@pytest.mark.parametrize(
    ("device", "registers", "shared_bytes", "num_warps", "expected"),
    [
        # NVIDIA's occupancy calculator
        (H200, 32, 0, 4, 16),  # warps: 64 of 4
        (H200, 16, 0, 4, 16),  # though the registers of 32 are left
        (H200, 128, 0, 8, 2),  # registers: 65536 of 128 * 256
        (H200, 129, 0, 4, 3),  # 136 registers after rounding
        (H200, 255, 0, 8, 1),
        (H200, 64, 115712, 4, 2),  # two blocks of 113 KB and 1 KB each in 228 KB
        (H200, 64, 115713, 4, 1),
        (H200, 64, 232448, 4, 1),  # the largest block
        (A100, 64, 81920, 4, 2),
        (L40S, 32, 0, 2, 24),  # blocks
        (MI300X, 128, 0, 4, 4),  # four waves on each SIMD unit
        (MI300X, 64, 32768, 4, 2),
    ],
)
def test_the_scarcest_resource_decides(
    device: Device, registers: int, shared_bytes: int, num_warps: int, expected: int
) -> None:
    assert blocks_per_sm(Resources(registers, 0, shared_bytes), num_warps, device) == expected


def test_what_does_not_fit_is_none_at_all() -> None:
    assert blocks_per_sm(Resources(64, 0, 232449), 4, H200) == 0
    assert blocks_per_sm(Resources(255, 0, 0), 16, H200) == 0


def test_an_unknown_gpu_has_no_answer() -> None:
    assert blocks_per_sm(Resources(64, 0, 1024), 4, gpu(70, 98304)) is None


def test_a_config_holds_the_fewer_blocks_of_up_and_down() -> None:
    wide, narrow = Resources(128, 0, 0), Resources(32, 0, 0)
    eight = Config(16, 64, 64, 1, num_warps=8)
    assert held_blocks(eight, {"up": wide, "down": narrow}, H200) == 2
    assert held_blocks(eight, {"up": narrow, "down": wide}, H200) == 2
    assert held_blocks(eight, {"up": narrow}, H200) == 8
    pair = ConfigPair(Config(16, 64, 64, 1, num_warps=4), eight)
    assert held_blocks(pair, {"up": wide, "down": narrow}, H200) == 4


def test_a_half_that_did_not_compile_leaves_no_answer() -> None:
    config, fine = Config(16, 64, 64, 1), Resources(32, 0, 0)
    assert held_blocks(config, {"up": fine, "down": CompileFailure("no")}, H200) is None
    assert held_blocks(config, {"up": CompileFailure("no"), "down": fine}, H200) is None
    assert held_blocks(config, {"up": fine, "down": fine}, gpu(70, 98304)) is None
