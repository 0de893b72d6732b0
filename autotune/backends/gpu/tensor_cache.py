"""Weights, inputs and layers are made once, and kept on the device as long as there is room."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, fields, is_dataclass
from typing import Generic, TypeVar

import torch

from autotune.backends.gpu.providers import Provider, ProviderLayer, ProviderSite
from autotune.kernels.inputs import (
    MoeInputs,
    MoeWeights,
    RoutingTensors,
    make_inputs,
    make_routing,
    make_weights,
)
from autotune.kernels.reference import moe_reference
from autotune.routing.draw import instances_of
from autotune.spec.problem import Problem, weights_key

_KEPT_SHARE = 0.25
"""Share of the device memory that weights leave free, for tensors of problems that may come back.
Making them took 20 to 340 ms on an H200 (Qwen3-30B-A3B, 2 to 4096 tokens), as long as 3 to 16
trials."""

Key = TypeVar("Key", bound=Hashable)
Item = TypeVar("Item")


class LruBySize(Generic[Key, Item]):
    """Items by key; the one that was not used for the longest time makes room for a new one."""

    def __init__(self) -> None:
        self._items: dict[Key, tuple[Item, int]] = {}

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[Key]:
        """Iterate over the keys, the last used one last."""
        return iter(self._items)

    def get(self, key: Key) -> Item | None:
        """Return the item, which counts as a use; None where it is not there."""
        found = self._items.pop(key, None)
        if found is None:
            return None
        self._items[key] = found
        return found[0]

    def put(self, key: Key, item: Item, size_bytes: int, room_bytes: int) -> None:
        """Keep ``item``, whatever its size, and of the others the last used ones that fit into
        ``room_bytes`` with it."""
        self._items.pop(key, None)
        self._items[key] = item, size_bytes
        while len(self._items) > 1 and self._size_bytes > room_bytes:
            del self._items[next(iter(self._items))]

    def clear(self) -> None:
        """Drop every item."""
        self._items.clear()

    @property
    def _size_bytes(self) -> int:
        return sum(size for _, size in self._items.values())


class RoutingInstances:
    """The number of routing instances of each problem. Samples are in the order of the instances,
    so a problem that has had to do with fewer ones still compares."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._halved: set[Problem] = set()

    def count(self, problem: Problem) -> int:
        """Return how many instances the problem is measured on."""
        halved = problem in self._halved
        return instances_of(problem, max(self._count // 2, 1) if halved else self._count)

    def halve(self, problem: Problem) -> bool:
        """Halve the problem's instances, once; return False the second time."""
        if problem in self._halved:
            return False
        self._halved.add(problem)
        return True


@dataclass(frozen=True, slots=True)
class PreparedLayer:
    """A provider's layer of a problem, and what it is verified and timed with."""

    layer: ProviderLayer
    routings: tuple[RoutingTensors, ...]
    reference: torch.Tensor
    """The right answer for the first routing instance, by the eager reference."""


@dataclass(frozen=True, slots=True)
class ProblemTensors:
    """A problem's tensors on the device, whichever providers compute it."""

    inputs: MoeInputs
    routings: tuple[RoutingTensors, ...]
    reference: torch.Tensor
    layers: dict[str, ProviderLayer]
    """Layers on these inputs, by their provider's name."""

    @property
    def own_bytes(self) -> int:
        """Bytes of device memory, without the weights that problems share."""
        shared = _storages(self.inputs.weights)
        own = _storages((self.inputs, self.routings, self.reference, *self.layers.values()))
        return sum(size for address, size in own.items() if address not in shared)


class TensorCache:
    """Tensors of the problems of one set of weights, for all providers of the process."""

    def __init__(
        self,
        site: ProviderSite,
        seed: int,
        instances: RoutingInstances,
        room_bytes: Callable[[], int],
    ) -> None:
        """``room_bytes`` is asked when weights are made: see ``usual_room``."""
        self.instances = instances
        self._site, self._seed = site, seed
        self._ask_room, self._room_bytes = room_bytes, 0
        self._weights: tuple[Problem, MoeWeights] | None = None
        self._problems: LruBySize[Problem, ProblemTensors] = LruBySize()

    def __iter__(self) -> Iterator[Problem]:
        """Iterate over the problems whose tensors are kept, the last used one last."""
        return iter(self._problems)

    def prepare(self, problem: Problem, provider: Provider) -> PreparedLayer:
        """Return the provider's layer of the problem, and what it is verified and timed with."""
        tensors = self._problems.get(problem)
        if tensors is None:
            tensors = self._make(problem)
        if provider.name not in tensors.layers:
            tensors.layers[provider.name] = provider.prepare(tensors.inputs)
            self._problems.put(problem, tensors, tensors.own_bytes, self._room_bytes)
        return PreparedLayer(tensors.layers[provider.name], tensors.routings, tensors.reference)

    def keep_no_others(self, problem: Problem) -> bool:
        """Keep the tensors of one problem alone, from the next weights on; return False if no
        other problem's are kept now."""
        if all(kept == problem for kept in self._problems):
            return False
        self._ask_room = no_room
        return True

    def release(self) -> None:
        """Drop every tensor."""
        self._problems.clear()
        self._weights = None
        self.release_unused()

    def release_unused(self) -> None:
        """Give memory back that PyTorch holds for tensors to come."""
        if self._site.is_gpu:
            torch.cuda.empty_cache()

    def _make(self, problem: Problem) -> ProblemTensors:
        weights = self._weights_of(problem)
        if not self._room_bytes:
            self._problems.clear()
        inputs = make_inputs(problem, weights, self._site.target, seed=self._seed)
        routings = tuple(
            make_routing(problem, instance, inputs.x.device, self._seed)
            for instance in range(self.instances.count(problem))
        )
        return ProblemTensors(inputs, routings, moe_reference(inputs), {})

    def _weights_of(self, problem: Problem) -> MoeWeights:
        """Others, and all that was prepared with them, go first: two may not fit."""
        key = weights_key(problem)
        if self._weights is None or self._weights[0] != key:
            self.release()
            site = self._site
            self._weights = key, make_weights(problem, site.target, site.name, self._seed)
            self._room_bytes = self._ask_room()
        return self._weights[1]


def usual_room() -> int:
    """Return the GPU's bytes that tensors of problems that may come back can take."""
    return int(_KEPT_SHARE * torch.cuda.mem_get_info()[0])


def no_room() -> int:
    """Return 0: only the problem at hand is kept."""
    return 0


def _storages(value: object) -> dict[int, int]:
    """Return address and bytes of every tensor's memory in nested dataclasses and tuples."""
    if isinstance(value, torch.Tensor):
        storage = value.untyped_storage()
        return {storage.data_ptr(): storage.nbytes()}
    parts: list[object] = []
    if isinstance(value, tuple):
        parts = list(value)
    elif is_dataclass(value):
        parts = [getattr(value, field.name) for field in fields(value)]
    return {address: size for part in parts for address, size in _storages(part).items()}
