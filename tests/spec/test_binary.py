from __future__ import annotations

from dataclasses import replace

import pytest
from moe_cases import problem_of

from autotune.spec.binary import (
    GemmShape,
    Scales,
    binary_key,
    gemm_flags,
    gemm_shape,
    launch_options,
    scales_of,
)
from autotune.spec.config import Config
from autotune.spec.problem import Dtype

QWEN = problem_of(Dtype.BF16, experts=128, top_k=8, hidden=2048, intermediate=768, tokens=64)
CONFIG = Config(64, 128, 64, 8, 4, 3)


def test_shapes_of_up_and_down() -> None:
    assert gemm_shape(QWEN, "up") == GemmShape(n=1536, k=2048)
    assert gemm_shape(QWEN, "down") == GemmShape(n=2048, k=768)


def test_without_a_gate_up_is_as_wide_as_down_is_deep() -> None:
    no_gate = replace(QWEN, gated=False)
    assert gemm_shape(no_gate, "up") == GemmShape(n=768, k=2048)
    assert gemm_shape(no_gate, "down") == gemm_shape(QWEN, "down")
    assert no_gate.name != QWEN.name


def test_a_gate_is_another_binary_only_where_it_aligns_the_columns() -> None:
    """Nemotron-3-Nano at TP 8: 464 columns are a multiple of 16, 232 are not."""
    for intermediate, same in ((768, True), (232, False)):
        gated = replace(QWEN, intermediate=intermediate)
        no_gate = replace(gated, gated=False)
        keys = [binary_key(problem, CONFIG, "up") for problem in (gated, no_gate)]
        assert (keys[0] == keys[1]) is same
        assert binary_key(gated, CONFIG, "down") == binary_key(no_gate, CONFIG, "down")


def test_one_binary_serves_both_gemms_all_batch_sizes_orders_and_ranks() -> None:
    key = binary_key(QWEN, CONFIG, "up")
    assert key == binary_key(QWEN, CONFIG, "down")
    others = (
        replace(QWEN, tokens=4096),
        replace(QWEN, top_k=2),
        replace(QWEN, experts=16, ep_size=8),
        replace(QWEN, hidden=4096, intermediate=1536),
    )
    assert {binary_key(other, CONFIG, "up") for other in others} == {key}
    assert binary_key(QWEN, replace(CONFIG, group_size_m=64), "up") == key


@pytest.mark.parametrize(
    "change",
    [
        {"block_size_m": 128},
        {"block_size_n": 64},
        {"block_size_k": 32},
        {"num_warps": 8},
        {"num_stages": 4},
        {"waves_per_eu": 2},
    ],
)
def test_other_tiles_and_options_are_other_binaries(change: dict[str, int]) -> None:
    assert binary_key(QWEN, replace(CONFIG, **change), "up") != binary_key(QWEN, CONFIG, "up")


def test_a_tail_of_k_and_odd_sizes_are_other_binaries() -> None:
    keys = {
        binary_key(QWEN, CONFIG, "up"),
        binary_key(replace(QWEN, hidden=2048 + 16), CONFIG, "up"),
        binary_key(replace(QWEN, hidden=2048 + 8), CONFIG, "up"),
        binary_key(replace(QWEN, intermediate=765), CONFIG, "up"),
    }
    assert len(keys) == 4


@pytest.mark.parametrize(
    ("problem", "scales"),
    [
        (QWEN, Scales.NONE),
        (replace(QWEN, dtype=Dtype.FP8_W8A8), Scales.TENSOR),
        (replace(QWEN, dtype=Dtype.FP8_W8A8, block_shape=(128, 128)), Scales.BLOCK),
        (replace(QWEN, dtype=Dtype.FP8_W8A8, block_shape=(0, 0)), Scales.TENSOR),
        (replace(QWEN, dtype=Dtype.FP8_W8A8, per_channel_quant=True), Scales.CHANNEL),
        (replace(QWEN, dtype=Dtype.INT8_W8A8), Scales.CHANNEL),
        (replace(QWEN, dtype=Dtype.INT8_W8A16), Scales.CHANNEL),
        (replace(QWEN, dtype=Dtype.INT8_W8A16, block_shape=(0, 128)), Scales.GROUP),
        (replace(QWEN, dtype=Dtype.INT4_W4A16, block_shape=(0, 64)), Scales.GROUP),
    ],
)
def test_scales_follow_the_quantisation(problem: object, scales: Scales) -> None:
    assert scales_of(problem) is scales


def test_int4_needs_a_group() -> None:
    with pytest.raises(ValueError, match="block_shape"):
        scales_of(replace(QWEN, dtype=Dtype.INT4_W4A16))


def test_flags_of_block_scales() -> None:
    blocks = replace(QWEN, dtype=Dtype.FP8_W8A8, block_shape=(128, 64))
    flags = gemm_flags(blocks, CONFIG, "down")
    assert (flags.group_n, flags.group_k, flags.even_k) == (128, 64, True)


def test_options_without_what_does_not_apply() -> None:
    assert launch_options(CONFIG) == {"num_warps": 4, "num_stages": 3}
    assert launch_options(replace(CONFIG, waves_per_eu=0))["waves_per_eu"] == 0
