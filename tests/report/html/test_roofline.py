from __future__ import annotations

from dataclasses import replace

import pytest

from autotune.backends.hardware import find_spec
from autotune.report.html.roofline import roofline, work_of
from autotune.spec.problem import Dtype, Problem

_QWEN3_30B = Problem(128, 8, 2048, 768, 4096)


def test_all_experts_weights_once_and_every_row_through_both_gemms() -> None:
    work = work_of(_QWEN3_30B)
    weights = 128 * 3 * 768 * 2048 * 2
    assert work.bytes == pytest.approx(weights + 4096 * 2048 * (2 + 2))
    assert work.flops == pytest.approx(4096 * 8 * 2 * 3 * 768 * 2048)


def test_experts_without_a_gate_have_two_thirds_of_the_weights() -> None:
    gated, without = (work_of(replace(_QWEN3_30B, gated=gated)) for gated in (True, False))
    assert without.flops == pytest.approx(gated.flops * 2 / 3)
    assert gated.bytes - without.bytes == pytest.approx(128 * 768 * 2048 * 2)


def test_one_token_reads_its_experts_alone() -> None:
    one = work_of(replace(_QWEN3_30B, tokens=1))
    assert one.bytes == pytest.approx(8 * 3 * 768 * 2048 * 2 + 2048 * 4)


def test_few_tokens_are_bound_by_memory_and_many_by_compute() -> None:
    h200 = find_spec("H200")
    few, many = (roofline(replace(_QWEN3_30B, tokens=tokens), h200) for tokens in (1, 16384))
    assert few.bound_us == few.memory_us > few.compute_us
    assert many.bound_us == many.compute_us > many.memory_us


def test_fp8_weights_are_half_of_bf16() -> None:
    half = work_of(replace(_QWEN3_30B, tokens=1, dtype=Dtype.FP8_W8A8))
    assert half.bytes / work_of(replace(_QWEN3_30B, tokens=1)).bytes == pytest.approx(0.5, abs=0.01)
