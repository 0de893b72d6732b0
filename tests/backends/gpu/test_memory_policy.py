"""What goes when the device's memory runs out, and in which order. The memory is pretended, the
tensors are real: a layer counts as long as anything holds it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from gpu_fakes import (  # type: ignore[import-not-found]
    NARROW,
    SMALL,
    FakeProvider,
    Memory,
    fake_measurer,
    fake_testbed,
    out_of_memory,
    plenty,
)

from autotune.backends.gpu.measurer import GpuMeasurer
from autotune.spec.problem import Problem
from autotune.studies.outcome import Outcome, TrialResult

OTHER, THIRD = replace(SMALL, tokens=6), replace(SMALL, tokens=7)
OK = TrialResult(Outcome.OK)


def _samples(measurer: GpuMeasurer, problem: Problem) -> int:
    result = measurer.measure(problem, NARROW)
    assert result.outcome is Outcome.OK, result.reason
    assert result.measurement is not None
    return len(result.measurement.samples_us)


def test_routings_are_halved_once_and_stay_halved() -> None:
    memory = Memory(instances=5)
    measurer = fake_measurer(FakeProvider(memory))
    assert [_samples(measurer, SMALL) for _ in range(3)] == [5, 5, 5]
    assert memory.failures == 1


def test_too_little_for_half_of_the_routings_is_an_outcome() -> None:
    memory = Memory(instances=4)
    result = fake_measurer(FakeProvider(memory)).measure(SMALL, NARROW)
    assert result.outcome is Outcome.OUT_OF_RESOURCES
    assert result.reason == "device memory: CUDA out of memory. Tried to allocate"
    assert memory.failures == 2


def test_other_problems_tensors_go_before_routings_are_halved() -> None:
    memory = Memory(problems=1)
    measurer = fake_measurer(FakeProvider(memory), room_bytes=plenty)
    assert _samples(measurer, SMALL) == 10
    assert _samples(measurer, OTHER) == 10
    assert memory.failures == 1


def test_once_others_went_none_is_kept_again() -> None:
    memory = Memory(problems=1)
    measurer = fake_measurer(FakeProvider(memory), room_bytes=plenty)
    assert [_samples(measurer, each) for each in (SMALL, OTHER, SMALL, THIRD)] == [10] * 4
    assert memory.failures == 1


def test_both_go_where_one_is_not_enough() -> None:
    memory = Memory()
    measurer = fake_measurer(FakeProvider(memory), room_bytes=plenty)
    _samples(measurer, SMALL)
    memory.problems, memory.instances = 1, 5
    assert _samples(measurer, OTHER) == 5
    assert memory.failures == 2


def test_only_the_problem_at_hand_is_halved() -> None:
    memory = Memory(instances=5)
    measurer = fake_measurer(FakeProvider(memory))
    assert _samples(measurer, SMALL) == 5
    memory.instances = 10
    assert _samples(measurer, OTHER) == 10
    assert _samples(measurer, SMALL) == 5


def test_no_tensor_is_left_when_it_is_tried_again() -> None:
    memory = Memory()
    provider = FakeProvider(memory)
    testbed = fake_testbed(provider, room_bytes=plenty)
    alive = []

    def work() -> TrialResult:
        alive.append((len(memory.layers), list(testbed.tensors)))
        testbed.tensors.prepare(SMALL, provider)
        testbed.tensors.prepare(OTHER, provider)
        if len(alive) < 3:
            raise out_of_memory()
        return OK

    assert testbed.memory.run(OTHER, work) is OK
    assert alive == [(0, []), (0, []), (0, [])]


def test_nothing_is_kept_of_what_did_not_fit() -> None:
    memory = Memory(instances=1)
    provider = FakeProvider(memory)
    testbed = fake_testbed(provider)
    GpuMeasurer(provider, testbed).measure(SMALL, NARROW)
    assert (len(memory.layers), list(testbed.tensors)) == (0, [])


def test_tritons_word_counts_too() -> None:
    testbed = fake_testbed(FakeProvider())
    errors = [RuntimeError("Triton Error [CUDA]: out of memory")]

    def work() -> TrialResult:
        if errors:
            raise errors.pop()
        return OK

    assert testbed.memory.run(SMALL, work) is OK


def test_other_errors_pass_at_once() -> None:
    provider = FakeProvider()
    testbed = fake_testbed(provider)
    testbed.tensors.prepare(SMALL, provider)

    def work() -> TrialResult:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    with pytest.raises(RuntimeError, match="illegal"):
        testbed.memory.run(SMALL, work)
    assert list(testbed.tensors) == [SMALL]
    assert testbed.tensors.instances.count(SMALL) == 10
