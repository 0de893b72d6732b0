from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from gpu_fakes import (  # type: ignore[import-not-found]
    SITE,
    SMALL,
    FakeProvider,
    plenty,
)

from autotune.backends.gpu.providers import ProviderLayer
from autotune.backends.gpu.providers.engine_inputs import EngineInputs
from autotune.backends.gpu.providers.ours import Ours
from autotune.backends.gpu.providers.pytorch import TorchLoop
from autotune.backends.gpu.tensor_cache import (
    LruBySize,
    ProblemTensors,
    RoutingInstances,
    TensorCache,
    no_room,
)
from autotune.kernels.inputs import MoeInputs, make_inputs, make_weights
from autotune.kernels.reference import moe_reference
from autotune.spec.config import AnyConfig
from autotune.spec.problem import Dtype, Problem

OTHER = replace(SMALL, tokens=16)


def _cache(room_bytes: Callable[[], int] = plenty) -> TensorCache:
    return TensorCache(SITE, 0, RoutingInstances(2), room_bytes)


def test_the_item_that_was_not_used_longest_makes_room() -> None:
    cache: LruBySize[str, int] = LruBySize()
    for name in "abc":
        cache.put(name, ord(name), 10, room_bytes=30)
    assert cache.get("a") == ord("a")
    cache.put("d", ord("d"), 10, room_bytes=30)
    assert list(cache) == ["c", "a", "d"]
    assert cache.get("b") is None


def test_the_last_one_is_kept_whatever_its_size() -> None:
    cache: LruBySize[str, int] = LruBySize()
    cache.put("a", 1, 10, room_bytes=30)
    cache.put("b", 2, 100, room_bytes=30)
    assert list(cache) == ["b"]
    cache.clear()
    assert len(cache) == 0


def test_a_key_that_is_put_again_counts_once() -> None:
    cache: LruBySize[str, int] = LruBySize()
    for value in range(5):
        cache.put("a", value, 10, room_bytes=25)
    cache.put("b", 9, 10, room_bytes=25)
    assert (cache.get("a"), cache.get("b")) == (4, 9)


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
    own_bytes = ProblemTensors(inputs, (), reference, {"autotune": layer}).own_bytes
    buffers = layer.buffers
    least = inputs.x.nbytes + buffers.up.nbytes + buffers.down.nbytes + reference.nbytes
    assert least < own_bytes < 3 * least
    layers: dict[str, ProviderLayer] = {"autotune": layer, "again": layer}
    assert ProblemTensors(inputs, (), reference, layers).own_bytes == own_bytes


def test_an_engines_copies_of_weights_are_the_problems_own() -> None:
    inputs = _inputs(replace(SMALL, dtype=Dtype.INT8_W8A16, block_shape=(0, 32)))
    given = EngineInputs.of(inputs)
    bare = ProblemTensors(inputs, (), inputs.x, {})
    full = ProblemTensors(inputs, (), inputs.x, {"vllm": EngineLayer(inputs, given)})
    assert given.up.values.dtype is not inputs.weights.up.values.dtype
    assert full.own_bytes - bare.own_bytes > given.up.values.nbytes + given.down.values.nbytes


def _inputs(problem: Problem) -> MoeInputs:
    weights = make_weights(problem, SITE.target, SITE.name)
    return make_inputs(problem, weights, SITE.target)
