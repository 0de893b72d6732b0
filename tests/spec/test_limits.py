from __future__ import annotations

import pytest
from moe_cases import H200, problem_of

from autotune.spec.config import Config
from autotune.spec.device import Target
from autotune.spec.limits import (
    shared_bytes,
    why_no_dot,
    why_no_dtype,
    why_no_tma,
    why_no_tma_tile,
)
from autotune.spec.problem import Dtype

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


@pytest.mark.parametrize(
    ("dtype", "changes", "target", "words"),
    [
        (Dtype.BF16, {}, Target("cuda", 89), "SM90"),
        (Dtype.BF16, {}, MI300, "SM90"),
        (Dtype.FP8_W8A8, {}, H200, "block-wise fp8"),
        (Dtype.INT8_W8A8, {"block_shape": (32, 32)}, H200, "int8_w8a8"),
        (Dtype.BF16, {"hidden": 70}, H200, "16 bytes; up has 140"),
        (Dtype.BF16, {"intermediate": 36}, H200, "down has 72"),
    ],
)
def test_a_missing_tma_is_explained(
    dtype: Dtype, changes: dict[str, object], target: Target, words: str
) -> None:
    assert words in str(why_no_tma(problem_of(dtype, **changes), target))


def test_where_tma_is() -> None:
    assert why_no_tma(BF16, H200) is None
    assert why_no_tma(problem_of(Dtype.FP16), Target("cuda", 100)) is None
    blocks = problem_of(Dtype.FP8_W8A8, block_shape=(32, 32), hidden=64, intermediate=32)
    assert why_no_tma(blocks, H200) is None


def test_a_tile_longer_than_tmas_box() -> None:
    assert why_no_tma_tile(Config(64, 512, 64, 1)) is None
    assert "256" in str(why_no_tma_tile(Config(64, 512, 64, 1, use_tma=True)))


def test_a_dot_has_a_smallest_tile() -> None:
    narrow = Config(16, 32, 16, 1)
    assert why_no_dot(BF16, narrow) is None
    assert "32 at least" in str(why_no_dot(problem_of(Dtype.INT8_W8A8), narrow))
    assert "BLOCK_SIZE_M is 8" in str(why_no_dot(BF16, Config(8, 32, 32, 1)))


def test_swapped_operands_take_the_buffers_of_wgmma() -> None:
    """A block fp8 tile of 16 rows and 64 columns; the compiler's figure is in test_ahead."""
    config = Config(16, 64, 128, 1, 4, num_stages=4)
    fp8 = problem_of(Dtype.FP8_W8A8)
    assert shared_bytes(fp8, config, H200) == 4 * (16 + 64) * 128
    assert shared_bytes(fp8, config, Target("cuda", 100)) == 3 * (16 + 64) * 128


@pytest.mark.parametrize(
    ("dtype", "first"),
    [
        (Dtype.FP16, 75),
        (Dtype.INT8_W8A8, 75),
        (Dtype.BF16, 80),
        (Dtype.INT8_W8A16, 80),
        (Dtype.INT4_W4A16, 80),
        (Dtype.FP8_W8A8, 89),
    ],
    ids=str,
)
def test_the_first_sm_of_a_dtype(dtype: Dtype, first: int) -> None:
    assert why_no_dtype(dtype, Target("cuda", first)) is None
    assert f"start at SM{first}" in str(why_no_dtype(dtype, Target("cuda", first - 1)))


@pytest.mark.parametrize(
    ("dtype", "smallest"),
    [(Dtype.FP32, (16, 8, 8)), (Dtype.BF16, (16, 8, 16)), (Dtype.FP8_W8A8, (16, 8, 32))],
    ids=str,
)
def test_the_smallest_dot(dtype: Dtype, smallest: tuple[int, int, int]) -> None:
    problem = problem_of(dtype)
    assert why_no_dot(problem, Config(*smallest, 1)) is None
    for place, key in enumerate("MNK"):
        sizes = [size - (place == other) for other, size in enumerate(smallest)]
        assert f"BLOCK_SIZE_{key} is {sizes[place]}" in str(why_no_dot(problem, Config(*sizes, 1)))


@pytest.mark.parametrize(
    ("dtype", "target", "block_size_m", "buffers"),
    [
        (Dtype.BF16, H200, 63, 3),
        (Dtype.BF16, Target("cuda", 103), 64, 4),
        (Dtype.BF16, Target("cuda", 110), 64, 3),
        (Dtype.INT8_W8A16, H200, 64, 3),  # weights are converted in registers
        (Dtype.INT4_W4A16, H200, 64, 3),
    ],
    ids=str,
)
def test_which_dots_read_shared_memory(
    dtype: Dtype, target: Target, block_size_m: int, buffers: int
) -> None:
    problem = problem_of(dtype)
    config = Config(block_size_m, 64, 32, 1, 4, num_stages=4)
    a_bytes = block_size_m * 32 * problem.dtype.activation_bits // 8
    b_bytes = 64 * 32 * problem.dtype.weight_bits // 8
    assert shared_bytes(problem, config, target) == buffers * (a_bytes + b_bytes)


def test_two_stages_have_one_buffer_in_registers() -> None:
    assert shared_bytes(BF16, Config(16, 16, 16, 1, 4, 2), H200) == (16 + 16) * 16 * 2
    assert shared_bytes(BF16, Config(16, 16, 16, 1, 4, 3), H200) == 2 * (16 + 16) * 16 * 2


def test_tmas_box_and_rows() -> None:
    assert why_no_tma_tile(Config(256, 256, 64, 1, use_tma=True)) is None
    assert "257" in str(why_no_tma_tile(Config(16, 257, 64, 1, use_tma=True)))
    assert "257" in str(why_no_tma_tile(Config(257, 16, 64, 1, use_tma=True)))
    assert why_no_tma(problem_of(Dtype.BF16, hidden=72, intermediate=40), H200) is None
    assert "up has 136" in str(why_no_tma(problem_of(Dtype.BF16, hidden=68), H200))
    assert why_no_tma(BF16, Target("cuda", 90)) is None
