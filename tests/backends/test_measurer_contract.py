"""The contract of every Measurer, over all of them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from measurer_cases import (  # type: ignore[import-not-found]
    MORE_TILES,
    PROBLEM,
    TILES,
    TOO_LARGE,
    save_recording,
)

from autotune.backends.protocol import Measurer, MeasurerOptions
from autotune.backends.selectors import open_measurer
from autotune.spec.device import DeviceKind
from autotune.studies.outcome import Outcome
from autotune.studies.search.pruning import Stop

KINDS = {
    "estimate": DeviceKind.ESTIMATE,
    "replay": DeviceKind.REPLAY,
    "cuda": DeviceKind.CUDA,
}
SOURCES = [pytest.param(s, marks=pytest.mark.gpu if s == "cuda" else ()) for s in KINDS]


@pytest.fixture(params=SOURCES)
def source(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def kind(source: str) -> DeviceKind:
    return KINDS[source]


@pytest.fixture
def selector(source: str, tmp_path: Path) -> str:
    if source == "replay":
        return f"replay:{save_recording(tmp_path / 'small.npz')}"
    return "cuda" if source == "cuda" else "estimate:NVIDIA_H200"


@pytest.fixture
def measurer(selector: str, compiled_dir: Path) -> Iterator[Measurer]:
    opened = open_measurer(selector, MeasurerOptions(cache_dir=compiled_dir))
    yield opened
    opened.close()


def test_the_device_says_what_it_is(measurer: Measurer, kind: DeviceKind) -> None:
    device = measurer.device
    assert device.kind is kind
    assert device.name
    assert device.shared_bytes > 48 * 1024
    assert device.triton_version[0].isdigit()
    assert device.method
    assert measurer.device == device


def test_the_space_holds_what_can_be_measured(measurer: Measurer) -> None:
    space = measurer.space(PROBLEM)
    assert {TILES, MORE_TILES} <= set(space.configs)
    assert all(space.why_not(config) is None for config in space.configs)
    assert space.why_not(TOO_LARGE)
    assert measurer.space(PROBLEM).fingerprint == space.fingerprint


def test_a_config_is_measured_on_every_instance(measurer: Measurer) -> None:
    results = [measurer.measure(PROBLEM, config) for config in (TILES, MORE_TILES)]
    assert [result.outcome for result in results] == [Outcome.OK, Outcome.OK]
    samples = [result.measurement.samples_us for result in results if result.measurement]
    assert len(samples) == 2
    assert len(samples[0]) == len(samples[1]) > 1
    assert all(0 < us < math.inf for us in (*samples[0], *samples[1]))
    assert all(result.measurement and result.measurement.how for result in results)


def test_interleaved_configs_are_measured_as_each_by_itself(
    measurer: Measurer, kind: DeviceKind
) -> None:
    configs = (TILES, TOO_LARGE, MORE_TILES, TILES)
    results = measurer.measure_interleaved(PROBLEM, configs)
    alone = [measurer.measure(PROBLEM, config) for config in configs]
    assert [result.outcome for result in results] == [result.outcome for result in alone]
    for together, each in zip(results, alone, strict=True):
        assert bool(together.measurement) == bool(each.measurement)
        if together.measurement is None or each.measurement is None:
            assert together.reason == each.reason
            continue
        assert together.measurement.how == each.measurement.how
        assert len(together.measurement.samples_us) == len(each.measurement.samples_us)
        assert together.measurement.geomean_us == pytest.approx(
            each.measurement.geomean_us, rel=0.5
        )
        assert together.relative_error == each.relative_error


def test_a_slow_config_may_be_given_up(measurer: Measurer) -> None:
    result = measurer.measure(PROBLEM, TILES, stop=Stop(((0.001,),)))
    assert result.outcome in (Outcome.OK, Outcome.PRUNED)
    assert result.measurement
    assert len(result.measurement.samples_us) >= 1
    assert (result.outcome is Outcome.PRUNED) == bool(result.reason)


def test_a_config_is_not_given_up_against_itself(measurer: Measurer) -> None:
    whole = measurer.measure(PROBLEM, TILES).measurement
    assert whole
    best = ((max(whole.samples_us),),) * len(whole.samples_us)
    assert measurer.measure(PROBLEM, TILES, stop=Stop(best)).outcome is Outcome.OK


def test_a_fast_config_is_not_given_up(measurer: Measurer) -> None:
    assert measurer.measure(PROBLEM, TILES, stop=Stop(((1e9,),) * 10)).outcome is Outcome.OK


def test_what_cannot_run_is_an_outcome_with_a_reason(measurer: Measurer) -> None:
    result = measurer.measure(PROBLEM, TOO_LARGE)
    assert result.outcome in (Outcome.INFEASIBLE, Outcome.OUT_OF_RESOURCES)
    assert result.measurement is None
    assert result.reason


def test_a_guess_is_one_positive_number_for_each_config(measurer: Measurer) -> None:
    guess = measurer.prior_us(PROBLEM, (TILES, MORE_TILES))
    assert guess is None or (len(guess) == 2 and min(guess) > 0)


def test_a_measurement_can_be_repeated(measurer: Measurer, kind: DeviceKind) -> None:
    first, second = (measurer.measure(PROBLEM, TILES).measurement for _ in range(2))
    assert first
    assert second
    if kind is DeviceKind.ESTIMATE:
        assert first == second
    else:
        assert first.geomean_us == pytest.approx(second.geomean_us, rel=0.5)


def test_two_measurers_of_one_kind_name_the_same_device(
    measurer: Measurer, kind: DeviceKind, selector: str, compiled_dir: Path
) -> None:
    if kind is DeviceKind.CUDA:
        pytest.skip("one context is enough")
    other_name = {"estimate:NVIDIA_H200": "estimate:h200"}.get(selector, selector)
    other = open_measurer(other_name, MeasurerOptions(cache_dir=compiled_dir))
    assert other.device == measurer.device


def test_it_can_be_closed_twice(measurer: Measurer, kind: DeviceKind) -> None:
    device = measurer.device
    assert measurer.measure(PROBLEM, TILES).outcome is Outcome.OK
    held = [_gpu_bytes()]
    for _ in range(2):
        measurer.close()
        held.append(_gpu_bytes())
    assert held[1] == held[2]
    assert held[1] < held[0] or kind is not DeviceKind.CUDA
    assert measurer.device == device


def _gpu_bytes() -> int:
    """Bytes of GPU memory that this process's tensors take; 0 without a GPU."""
    return torch.cuda.memory_allocated() if torch.cuda.is_available() else 0


def test_problems_differ_by_batch_size(measurer: Measurer, kind: DeviceKind) -> None:
    if kind is DeviceKind.REPLAY:
        pytest.skip("one batch size was recorded")
    more = replace(PROBLEM, tokens=1024)
    few_us, many_us = (
        result.measurement.geomean_us
        for result in (measurer.measure(PROBLEM, TILES), measurer.measure(more, TILES))
        if result.measurement
    )
    assert few_us < many_us
