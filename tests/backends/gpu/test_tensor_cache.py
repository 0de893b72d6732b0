"""Tensors are kept while there is room, and go in order when the device's memory runs out. It is
pretended, the tensors are real: a layer counts as long as anything holds it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
import torch
from gpu_fakes import (  # type: ignore[import-not-found]
    NARROW,
    SITE,
    SMALL,
    FakeProvider,
    Memory,
    fake_measurer,
    fake_testbed,
    out_of_memory,
    plenty,
)

from autotune.backends.gpu.measurer import GpuMeasurer, _no_memory
from autotune.backends.gpu.providers import ProviderLayer
from autotune.backends.gpu.providers.engine import EngineInputs
from autotune.backends.gpu.providers.ours import Ours
from autotune.backends.gpu.providers.pytorch import TorchLoop
from autotune.backends.gpu.tensor_cache import (
    ProblemTensors,
    TensorCache,
    no_room,
)
from autotune.kernels.inputs import MoeInputs, make_inputs, make_weights
from autotune.kernels.reference import moe_reference
from autotune.spec.config import AnyConfig
from autotune.spec.problem import Dtype, Problem
from autotune.studies.outcome import Outcome, TrialResult

OTHER, THIRD = replace(SMALL, tokens=16), replace(SMALL, tokens=7)
OK = TrialResult(Outcome.OK)


def _cache(room_bytes: Callable[[], int] = plenty) -> TensorCache:
    return TensorCache(SITE, 0, 2, room_bytes)


def test_the_problem_that_was_not_used_longest_makes_room() -> None:
    provider, others = FakeProvider(), [replace(SMALL, tokens=tokens) for tokens in (6, 7, 8)]
    roomy = _cache()
    for problem in (SMALL, *others):
        roomy.prepare(problem, provider)
    sizes = {problem: tensors.own_bytes for problem, tensors in roomy._problems.items()}
    cache = _cache(lambda: sum(sizes.values()) - sizes[others[0]])
    for problem in (SMALL, *others[:2], SMALL, others[2]):
        cache.prepare(problem, provider)
    assert list(cache) == [others[1], SMALL, others[2]]
    cache.prepare(SMALL, Ours(SITE))  # another provider's buffers count too
    assert others[1] not in list(cache)
    assert list(cache)[-1] == SMALL


def test_a_batch_size_that_comes_back_finds_its_tensors() -> None:
    cache, provider = _cache(), FakeProvider()
    first, second = cache.prepare(SMALL, provider), cache.prepare(OTHER, provider)
    assert cache.prepare(SMALL, provider).layer is first.layer
    assert cache.prepare(OTHER, provider).layer is second.layer
    assert first.layer.inputs.weights is second.layer.inputs.weights
    fresh = _cache().prepare(SMALL, provider)
    assert torch.equal(first.reference, fresh.reference)
    assert torch.equal(first.routings[1].ids, fresh.routings[1].ids)


def test_providers_share_inputs_and_reference() -> None:
    cache = _cache(no_room)
    ours, theirs = cache.prepare(SMALL, Ours(SITE)), cache.prepare(SMALL, TorchLoop(SITE))
    assert ours.layer is not theirs.layer
    assert ours.layer.inputs is theirs.layer.inputs
    assert ours.reference is theirs.reference


def test_where_room_is_short_the_problem_at_hand_is_kept_alone() -> None:
    cache, provider = _cache(no_room), FakeProvider()
    first = cache.prepare(SMALL, provider)
    assert cache.prepare(SMALL, provider).layer is first.layer
    cache.prepare(OTHER, provider)
    assert list(cache) == [OTHER]


def test_where_there_is_no_room_the_old_tensors_go_before_new_ones_are_made() -> None:
    cache, provider = _cache(no_room), FakeProvider()
    provider.memory.problems = 1
    cache.prepare(SMALL, provider)
    cache.prepare(OTHER, provider)
    assert provider.memory.failures == 0


def test_other_weights_push_out_all_that_was_made_with_the_old_ones() -> None:
    cache, provider, other = _cache(), FakeProvider(), replace(SMALL, experts=8)
    cache.prepare(SMALL, provider)
    cache.prepare(replace(SMALL, tokens=16, ep_size=2), provider)
    assert len(list(cache)) == 2
    cache.prepare(other, provider)
    assert list(cache) == [other]


@dataclass(frozen=True)
class EngineLayer(ProviderLayer):
    given: EngineInputs

    def run(self, config: AnyConfig | None) -> torch.Tensor:
        return self.given.x


def test_what_a_problem_takes_counts_without_the_weights_and_each_tensor_once() -> None:
    inputs = _inputs(SMALL)
    layer, reference = Ours(SITE).prepare(inputs), moe_reference(inputs)
    own_bytes = ProblemTensors(inputs, {"autotune": layer}, (), reference).own_bytes
    buffers = layer.buffers
    least = inputs.x.nbytes + buffers.up.nbytes + buffers.down.nbytes + reference.nbytes
    assert least < own_bytes < 3 * least
    layers: dict[str, ProviderLayer] = {"autotune": layer, "again": layer}
    assert ProblemTensors(inputs, layers, (), reference).own_bytes == own_bytes


def test_an_engines_copies_of_weights_are_the_problems_own() -> None:
    inputs = _inputs(replace(SMALL, dtype=Dtype.INT8_W8A16, block_shape=(0, 32)))
    given = EngineInputs.of(inputs)
    bare = ProblemTensors(inputs, {}, (), inputs.x)
    full = ProblemTensors(inputs, {"vllm": EngineLayer(inputs, given)}, (), inputs.x)
    assert given.up.values.dtype is not inputs.weights.up.values.dtype
    assert full.own_bytes - bare.own_bytes > given.up.values.nbytes + given.down.values.nbytes


def _inputs(problem: Problem) -> MoeInputs:
    weights = make_weights(problem, SITE.target, SITE.name)
    return make_inputs(problem, weights, SITE.target)


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

    assert testbed.tensors.try_with_less(OTHER, work, _no_memory) is OK
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

    assert testbed.tensors.try_with_less(SMALL, work, _no_memory) is OK


def test_other_errors_pass_at_once() -> None:
    provider = FakeProvider()
    testbed = fake_testbed(provider)
    testbed.tensors.prepare(SMALL, provider)

    def work() -> TrialResult:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    with pytest.raises(RuntimeError, match="illegal"):
        testbed.tensors.try_with_less(SMALL, work, _no_memory)
    assert list(testbed.tensors) == [SMALL]
    assert testbed.tensors.instances(SMALL) == 10
