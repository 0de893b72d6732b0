"""Weights, inputs and layers are made once, and kept on the device as long as there is room."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields, is_dataclass
from typing import TypeVar

import torch

from autotune.backends.gpu.device_errors import first_line, is_out_of_memory
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

Value = TypeVar("Value")

_KEPT_SHARE = 0.25
"""Share of the device memory that weights leave free, for tensors of problems that may come back.
Making them took 20 to 340 ms on an H200 (Qwen3-30B-A3B, 2 to 4096 tokens), as long as 3 to 16
trials."""


@dataclass(frozen=True, slots=True)
class PreparedLayer:
    """A provider's layer of a problem, and what it is verified and timed with."""

    layer: ProviderLayer
    routings: tuple[RoutingTensors, ...]
    reference: torch.Tensor
    """The right answer for the first routing instance, by the eager reference."""


@dataclass(slots=True)
class ProblemTensors:
    """A problem's tensors on the device, whichever providers compute it."""

    inputs: MoeInputs
    layers: dict[str, ProviderLayer] = field(default_factory=dict)
    """Layers on these inputs, by their provider's name."""
    routings: tuple[RoutingTensors, ...] = ()
    """Empty until somebody measures; so is the reference."""
    reference: torch.Tensor | None = None

    @property
    def own_bytes(self) -> int:
        """Bytes of device memory, without the weights that problems share."""
        shared = _storages(self.inputs.weights)
        own = _storages((self.inputs, self.routings, self.reference, *self.layers.values()))
        return sum(size for address, size in own.items() if address not in shared)


class TensorCache:
    """Tensors of the problems of one set of weights, for all providers of the process."""

    def __init__(
        self, site: ProviderSite, seed: int, instances: int, room_bytes: Callable[[], int]
    ) -> None:
        """``room_bytes`` is asked when weights are made: see ``usual_room``."""
        self._site, self._seed, self._instances = site, seed, instances
        self._halved: set[Problem] = set()
        self._ask_room, self._room_bytes = room_bytes, 0
        self._weights: tuple[Problem, MoeWeights] | None = None
        self._problems: dict[Problem, ProblemTensors] = {}

    def __iter__(self) -> Iterator[Problem]:
        """Iterate over the problems whose tensors are kept, the last used one last."""
        return iter(self._problems)

    def layer(self, problem: Problem, provider: Provider) -> ProviderLayer:
        """Return the provider's layer of the problem, under its first routing instance: enough for
        asking what it launches."""
        return self._last_used(problem, provider).layers[provider.name]

    def prepare(self, problem: Problem, provider: Provider) -> PreparedLayer:
        """Return the provider's layer of the problem, and what it is verified and timed with."""
        tensors = self._last_used(problem, provider)
        if tensors.reference is None:
            inputs = tensors.inputs
            tensors.routings = tuple(
                make_routing(problem, instance, inputs.x.device, self._seed)
                for instance in range(self.instances(problem))
            )
            inputs.set_routing(tensors.routings[0])
            tensors.reference = moe_reference(inputs)
            self._make_room()
        return PreparedLayer(tensors.layers[provider.name], tensors.routings, tensors.reference)

    def try_with_less(
        self, problem: Problem, work: Callable[[], Value], failed: Callable[[str], Value]
    ) -> Value:
        """Call ``work`` until it fits into the memory, with less each time: without other problems'
        tensors, then with half of the problem's routing instances; neither comes back. Return
        what ``failed`` makes of the reason where nothing is left to give up. All tensors go between
        the calls."""
        while True:
            try:
                return work()
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                reason = first_line(error)
            # Not in the handler: the error holds on to frames, and they to memory.
            has_given_way = self._keep_no_others(problem) or self._halve(problem)
            self.release()
            if not has_given_way:
                return failed(reason)

    def instances(self, problem: Problem) -> int:
        """Return how many routing instances the problem is measured on. Samples are in their order,
        so a problem that has had to do with fewer ones still compares."""
        most = max(self._instances // 2, 1) if problem in self._halved else self._instances
        return instances_of(problem, most)

    def release(self) -> None:
        """Drop every tensor."""
        self._problems.clear()
        self._weights = None
        self.release_unused()

    def release_unused(self) -> None:
        """Give memory back that PyTorch holds for tensors to come."""
        if self._site.is_gpu:
            torch.cuda.empty_cache()

    def _keep_no_others(self, problem: Problem) -> bool:
        """Keep the tensors of one problem alone, from the next weights on; return False if no
        other problem's are kept now."""
        if all(kept == problem for kept in self._problems):
            return False
        self._ask_room = no_room
        return True

    def _halve(self, problem: Problem) -> bool:
        """Halve the problem's routing instances, once; return False the second time."""
        is_first = problem not in self._halved
        self._halved.add(problem)
        return is_first

    def _make_room(self) -> None:
        """Drop what was not used for the longest time; the problem at hand stays, whatever its
        size."""
        sizes = {problem: tensors.own_bytes for problem, tensors in self._problems.items()}
        for oldest in list(sizes)[:-1]:
            if sum(sizes.values()) <= self._room_bytes:
                return
            del self._problems[oldest], sizes[oldest]

    def _last_used(self, problem: Problem, provider: Provider) -> ProblemTensors:
        """Return the problem's tensors with the provider's layer, the last used one last."""
        tensors = self._problems.get(problem) or self._make(problem)
        is_new = provider.name not in tensors.layers
        if is_new:
            tensors.layers[provider.name] = provider.prepare(tensors.inputs)
        self._problems.pop(problem, None)
        self._problems[problem] = tensors
        if is_new:
            self._make_room()
        return tensors

    def _make(self, problem: Problem) -> ProblemTensors:
        weights = self._weights_of(problem)
        if not self._room_bytes:
            self._problems.clear()
        return ProblemTensors(make_inputs(problem, weights, self._site.target, seed=self._seed))

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
