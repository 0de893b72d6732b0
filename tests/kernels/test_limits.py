from __future__ import annotations

import pytest
from moe_cases import H200, problem_of

from autotune.kernels.config import Config
from autotune.kernels.device import Target
from autotune.kernels.limits import shared_bytes, why_no_dtype, why_no_kernel
from autotune.kernels.problem import Dtype

MI300 = Target("hip", "gfx942", 64)
BF16 = problem_of(Dtype.BF16)


@pytest.mark.parametrize(
    ("target", "block_size_m", "buffers"),
    [
        (H200, 64, 4),
        (H200, 32, 3),
        (Target("cuda", 100), 128, 4),
        (Target("cuda", 120), 128, 3),
        (Target("cuda", 80), 128, 3),
        (MI300, 128, 3),
    ],
    ids=str,
)
def test_buffers_are_those_the_compiler_takes(
    target: Target, block_size_m: int, buffers: int
) -> None:
    config = Config(block_size_m, 64, 32, 1, 4, num_stages=4)
    assert shared_bytes(BF16, config, target) == buffers * (block_size_m + 64) * 32 * 2


def test_one_stage_still_has_a_buffer() -> None:
    assert shared_bytes(BF16, Config(16, 16, 16, 1, 4, 1), H200) == (16 + 16) * 16 * 2


def test_narrow_types_take_less() -> None:
    config = Config(64, 64, 64, 1, 4, 3)
    fp8 = problem_of(Dtype.FP8_W8A8)
    assert 2 * shared_bytes(fp8, config, H200) == shared_bytes(BF16, config, H200)


@pytest.mark.parametrize(
    ("dtype", "target"),
    [
        (Dtype.FP8_W8A8, Target("cuda", 80)),
        (Dtype.FP8_W8A8, Target("cuda", 86)),
        (Dtype.BF16, Target("cuda", 75)),
        (Dtype.INT4_W4A16, Target("cuda", 75)),
        (Dtype.FP16, Target("cuda", 70)),
        (Dtype.FP8_W8A8, Target("hip", "gfx90a", 64)),
        (Dtype.BF16, Target("hip", "gfx1100")),
    ],
    ids=str,
)
def test_a_missing_dtype_is_explained(dtype: Dtype, target: Target) -> None:
    reason = why_no_dtype(dtype, target)
    assert reason is not None
    assert str(target.arch) in reason


@pytest.mark.parametrize("dtype", list(Dtype))
@pytest.mark.parametrize("target", [H200, Target("cuda", 89), Target("cuda", 120), MI300], ids=str)
def test_recent_gpus_have_all(dtype: Dtype, target: Target) -> None:
    assert why_no_dtype(dtype, target) is None


def test_tma_is_not_passed_over_in_silence() -> None:
    assert why_no_kernel(Config(64, 64, 64, 1)) is None
    assert why_no_kernel(Config(64, 64, 64, 1, use_tma=False)) is None
    assert "USE_TMA" in str(why_no_kernel(Config(64, 64, 64, 1, use_tma=True)))
