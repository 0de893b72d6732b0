"""Whose kernel is measured for an engine, and when ours is a proven stand-in."""

from __future__ import annotations

from dataclasses import replace

import pytest

from autotune.backends import stand_in
from autotune.backends.stand_in import (
    MOST_MEAN,
    MOST_WORST,
    Cell,
    Evidence,
    error_lines,
    kernel_lines,
    known_evidence,
    measured_kernel,
    owner_of,
)
from autotune.engines import ENGINES
from autotune.spec.device import Device, DeviceKind, Target
from autotune.spec.problem import Dtype, Problem

SGLANG, VLLM = ENGINES["sglang"], ENGINES["vllm"]
BF16 = Problem(8, 2, 512, 256, 64)
BLOCK = replace(BF16, dtype=Dtype.FP8_W8A8, block_shape=(128, 128))
OURS = Device(
    DeviceKind.CUDA, "NVIDIA H200", Target("cuda", 90), 232448, "3.6.0", "whole layer, 4, cold L2"
)
OWN = replace(OURS, method=f"sglang 0.5.23: {OURS.method}")
GOOD = Evidence("sglang 0.5.23", 6, 0.98, 0.003, 0.008, "a command")


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    """bf16 on SGLang alone is proven, on SM90."""
    evidence = {
        Cell("sglang", "bf16", "cuda:90"): GOOD,
        Cell("vllm", "bf16", "cuda:90"): replace(GOOD, kernel="vllm 0.33.0", cost_worst=0.3),
    }
    monkeypatch.setattr(stand_in, "known_evidence", lambda: evidence)


@pytest.mark.parametrize(
    ("changes", "is_enough"),
    [
        ({}, True),
        ({"cost_mean": MOST_MEAN, "cost_worst": MOST_WORST}, True),
        ({"cost_mean": MOST_MEAN + 0.0001, "cost_worst": MOST_WORST}, False),
        ({"cost_worst": MOST_WORST + 0.0001}, False),
        ({"problems": 2}, False),
        ({"spearman": None}, False),
    ],
)
def test_small_costs_in_recordings_of_several_problems_prove(
    changes: dict[str, float | None], is_enough: bool
) -> None:
    assert replace(GOOD, **changes).is_enough is is_enough  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("engine", "problem", "device", "is_proven"),
    [
        ("sglang", BF16, OURS, True),
        ("sglang", replace(BF16, tokens=1, experts=128), OURS, True),
        ("sglang", BF16, replace(OURS, target=Target("cuda", 80)), False),
        ("sglang", replace(BF16, dtype=Dtype.FP16), OURS, False),
        ("sglang", BLOCK, OURS, False),
        ("vllm", BF16, OURS, False),
        ("sglang", BLOCK, OWN, True),
        ("vllm", BF16, OWN, False),  # another engine's kernel stands for nobody
        ("sglang", BF16, replace(OURS, method="vllm 0.33.0: whole layer"), False),
    ],
)
def test_a_kernel_is_proven_where_it_is_the_engines_or_was_recorded_so(
    engine: str, problem: Problem, device: Device, is_proven: bool
) -> None:
    kernel = measured_kernel(ENGINES[engine], problem, device)
    assert kernel is not None
    assert kernel.is_proven is is_proven


@pytest.mark.parametrize("kind", [DeviceKind.ESTIMATE, DeviceKind.REPLAY])
def test_nothing_is_measured_without_a_gpu(kind: DeviceKind) -> None:
    assert measured_kernel(SGLANG, BF16, replace(OURS, kind=kind)) is None


def test_a_recording_says_nothing_of_kernels_and_an_estimate_is_of_ours() -> None:
    replayed, estimated = (
        replace(OURS, kind=kind) for kind in (DeviceKind.REPLAY, DeviceKind.ESTIMATE)
    )
    assert kernel_lines([(SGLANG, BF16, replayed)]) == []
    [proven, unproven] = kernel_lines([(SGLANG, BF16, estimated), (VLLM, BLOCK, estimated)])
    assert [proven] == kernel_lines([(SGLANG, BF16, OURS)])
    assert unproven == (
        "vLLM: our kernel stands in, not proven for fp8_w8a8 block on cuda:90 "
        "(no recordings of both kernels)"
    )


def test_where_the_models_error_is_not_known_a_line_says_so() -> None:
    mi300 = Device(
        DeviceKind.ESTIMATE, "AMD_Instinct_MI300X", Target("hip", "gfx942", 64), 65536, ""
    )
    *_, line = kernel_lines([(SGLANG, BF16, mi300), (SGLANG, BLOCK, mi300)])
    assert line.startswith(
        "estimates: the time model was never compared with times measured on AMD"
    )
    assert [line] == error_lines([mi300, replace(OURS, kind=DeviceKind.ESTIMATE), OURS])


def test_a_line_for_each_engine_says_whose_kernel_it_is() -> None:
    asked = [(SGLANG, BF16, OWN), (SGLANG, replace(BF16, tokens=1), OWN), (VLLM, BLOCK, OURS)]
    own, unproven = kernel_lines(asked)
    assert own == "SGLang: its own kernel, sglang 0.5.23"
    assert unproven.startswith("vLLM: our kernel stands in, not proven for fp8_w8a8 block on")
    assert "files go under stand-in/" in unproven
    assert "pip install" in unproven
    [proven] = kernel_lines([(SGLANG, BF16, OURS)])
    assert proven == (
        "SGLang: our kernel stands in (proven for bf16 on cuda:90: on sglang 0.5.23 our best is "
        "0.3 % slower than its best in the mean of 6 problems, 0.8 % at most)"
    )


@pytest.mark.parametrize(
    ("method", "owner"),
    [
        ("whole layer, 4, cold L2", "autotune"),
        ("", "autotune"),
        ("vllm 0.33.0+cu130: whole layer, 4, cold L2", "vllm 0.33.0+cu130"),
        ("SGLang 0.5.23's up and down GEMM, events, cold L2, 10 routings", "sglang 0.5.23"),
    ],
)
def test_a_method_tells_its_kernel(method: str, owner: str) -> None:
    assert owner_of(method) == owner


def test_every_row_of_the_data_has_its_command() -> None:
    evidence = known_evidence()
    assert evidence
    for cell, known in evidence.items():
        assert cell.engine in ENGINES
        assert known.kernel.startswith(f"{cell.engine} ")
        assert known.source.startswith("python ")
