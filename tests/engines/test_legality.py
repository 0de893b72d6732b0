"""Rules of both engines for a config, one by one."""

from __future__ import annotations

from dataclasses import replace

import pytest
from engine_cases import BLOCK_FP8, H200, LARGE, MI300X, SMALL, make_device, make_problem

from autotune.engines.legality import scale_block, why_not_shared
from autotune.spec.config import Config
from autotune.spec.device import Device
from autotune.spec.problem import Dtype, Problem

BF16 = make_problem()
WIDE = make_problem(Dtype.FP8_W8A8, block_shape=(96, 128))
AMD = Config(16, 64, 64, 1, 4, 2, waves_per_eu=0)


@pytest.mark.parametrize(
    ("problem", "device", "config"),
    [
        (BF16, H200, SMALL),
        (BF16, H200, LARGE),
        (BLOCK_FP8, H200, SMALL),
        (BLOCK_FP8, H200, replace(SMALL, block_size_n=256)),  # a multiple of the scale block
        (BLOCK_FP8, H200, replace(SMALL, block_size_n=128)),
        (WIDE, H200, replace(SMALL, block_size_n=32)),  # divides it
        (BF16, MI300X, AMD),
        (BF16, MI300X, SMALL),
        (BF16, H200, replace(SMALL, block_size_m=256, num_warps=8)),
        (BF16, H200, replace(SMALL, block_size_m=128)),
        (BF16, make_device(arch=100), replace(SMALL, block_size_m=256)),
        (BF16, MI300X, replace(SMALL, block_size_m=256)),
    ],
)
def test_legal(problem: Problem, device: Device, config: Config) -> None:
    assert why_not_shared(problem, device, config) is None


@pytest.mark.parametrize(
    ("problem", "device", "config", "words"),
    [
        (BF16, H200, replace(SMALL, block_size_n=48), "BLOCK_SIZE_N"),
        (BF16, H200, replace(SMALL, group_size_m=0), "GROUP_SIZE_M"),
        (BLOCK_FP8, H200, replace(SMALL, block_size_k=256), "256 does not divide the scale"),
        (WIDE, H200, SMALL, "64 neither divides nor is a multiple of the scale block 96"),
        (BF16, H200, replace(SMALL, kpack=1), "kpack is a key for AMD; NVIDIA H200 is"),
        (BF16, H200, replace(SMALL, waves_per_eu=0), "waves_per_eu is a key for AMD"),
        (BF16, H200, replace(SMALL, block_size_m=256), "256 rows with 4 warps can crash"),
    ],
)
def test_illegal_in_words(problem: Problem, device: Device, config: Config, words: str) -> None:
    assert words in str(why_not_shared(problem, device, config))


def test_a_scale_block_has_two_sides() -> None:
    assert scale_block(BLOCK_FP8) == (128, 128)
    assert scale_block(BF16) is None
    assert scale_block(make_problem(Dtype.INT4_W4A16, block_shape=(0, 128))) is None
