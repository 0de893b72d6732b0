"""Verifies and times a provider's layer. Lives in a child process, where engines are imported."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from triton.runtime.errors import OutOfResources

from autotune.devices.cuda import INSTANCES, device_of
from autotune.devices.options import MeasurerOptions
from autotune.errors import DeviceError
from autotune.kernels.ahead import COMPILER_ERRORS, CompileFailure, failure_of
from autotune.kernels.config import AnyConfig
from autotune.kernels.device import Device, Target
from autotune.kernels.host_clock import HostClock
from autotune.kernels.inputs import (
    MoeInputs,
    MoeWeights,
    RoutingTensors,
    make_inputs,
    make_routing,
    make_weights,
    weights_key,
)
from autotune.kernels.measurement import Measurement
from autotune.kernels.problem import Problem
from autotune.kernels.quiet import captured_stderr
from autotune.kernels.timing import Clock, CudaClock, EventTimer, GraphTimer, Timer
from autotune.kernels.twins import moe_twin
from autotune.kernels.verify import TOLERANCE, Verdict, relative_error
from autotune.providers import Layer, Place, Provider, open_provider
from autotune.studies.outcome import Outcome, TrialResult

_CPU = Place("cpu", Target("cuda", 90))
"""What the dtypes' storage types are taken from; nothing is compiled for it."""


@dataclass(frozen=True, slots=True)
class _Prepared:
    inputs: MoeInputs
    layer: Layer
    routings: tuple[RoutingTensors, ...]
    reference: Tensor
    """Of the first routing instance, by the eager twin."""


class ProviderTimer:
    """Verifies and times one provider's layer on a GPU, or on the CPU."""

    def __init__(
        self, provider: str, index: int | None, options: MeasurerOptions, instances: int = INSTANCES
    ) -> None:
        """GPU ``index``, None for the CPU. Raises DeviceError where there is no such GPU, and as
        ``open_provider`` does."""
        self._cold, self._seed, self._instances = options.cold_l2, options.seed, instances
        self._device = None if index is None else _take_gpu(index, cold_l2=options.cold_l2)
        self._place = Place(f"cuda:{index}", self._device.target) if self._device else _CPU
        self._clock = _clock(index)
        self._provider: Provider = open_provider(provider, self._place)
        self._weights: tuple[Problem, MoeWeights] | None = None
        self._prepared: tuple[Problem, _Prepared] | None = None

    @property
    def device(self) -> Device | None:
        """The GPU; None on the CPU."""
        return self._device

    @property
    def version(self) -> str:
        """The provider's."""
        return self._provider.version

    @property
    def does(self) -> str:
        """What its timed call does."""
        return self._provider.does

    def why_not(self, problem: Problem) -> str | None:
        """See ``Provider``."""
        return self._provider.why_not(problem)

    def measure(
        self, problem: Problem, config: AnyConfig | None, *, stop_above_us: float | None = None
    ) -> TrialResult:
        """See ``Measurer``; ``config`` None is what the provider chooses for itself."""
        reason = self._provider.why_not(problem)
        if reason is not None:
            return TrialResult(Outcome.INFEASIBLE, reason=reason)
        try:
            prepared = self._prepare(problem)
            verdict = self._verify(prepared, config)
            if isinstance(verdict, CompileFailure):
                return TrialResult(Outcome.COMPILE_ERROR, reason=verdict.reason)
            return self._result(prepared, config, verdict, stop_above_us)
        except OutOfResources as error:
            return TrialResult(Outcome.OUT_OF_RESOURCES, reason=str(error))
        except torch.OutOfMemoryError as error:
            self._release()
            reason = f"device memory: {str(error).splitlines()[0]}"
            return TrialResult(Outcome.OUT_OF_RESOURCES, reason=reason)

    def close(self) -> None:
        self._release()
        self._provider.close()

    def _verify(self, prepared: _Prepared, config: AnyConfig | None) -> Verdict | CompileFailure:
        """The first call compiles; what the compiler writes is kept back."""
        prepared.layer.route(prepared.routings[0])
        with captured_stderr() as dump:
            try:
                output = prepared.layer.run(config)
                error = relative_error(output, prepared.reference)
            except (OutOfResources, torch.OutOfMemoryError):
                raise
            except COMPILER_ERRORS as failure:
                if _is_fatal(failure):
                    raise
                return failure_of(failure, dump())
        return Verdict(error, TOLERANCE[prepared.inputs.problem.dtype])

    def _result(
        self,
        prepared: _Prepared,
        config: AnyConfig | None,
        verdict: Verdict,
        stop_above_us: float | None,
    ) -> TrialResult:
        error = verdict.relative_error
        if not verdict.is_right:
            return TrialResult(Outcome.WRONG_RESULT, reason=str(verdict), relative_error=error)
        samples = self._samples(prepared, config)
        first = next(samples)
        is_given_up = stop_above_us is not None and first > stop_above_us
        taken = (first,) if is_given_up else (first, *samples)
        how = f"{self._how(prepared.layer)}, {len(taken)} routings"
        outcome = Outcome.PRUNED if is_given_up else Outcome.OK
        return TrialResult(outcome, Measurement(taken, how), relative_error=error)

    def _samples(self, prepared: _Prepared, config: AnyConfig | None) -> Iterator[float]:
        layer = prepared.layer
        instances = (partial(layer.route, routing) for routing in prepared.routings)

        def call() -> None:
            layer.run(config)

        return self._timer(layer).samples(call, instances)

    def _timer(self, layer: Layer) -> Timer:
        kind = GraphTimer if self._place.is_gpu and layer.is_capturable else EventTimer
        return kind(self._clock, warm=not self._cold)

    def _how(self, layer: Layer) -> str:
        if self._place.is_gpu:
            return self._timer(layer).how
        return f"the host's clock, {'cold' if self._cold else 'warm'} caches, CPU"

    def _prepare(self, problem: Problem) -> _Prepared:
        if self._prepared and self._prepared[0] == problem:
            return self._prepared[1]
        self._prepared = None
        key, place = weights_key(problem), self._place
        if self._weights is None or self._weights[0] != key:
            self._weights = None
            self._weights = key, make_weights(problem, place.target, place.name, self._seed)
        inputs = make_inputs(problem, self._weights[1], place.target, seed=self._seed)
        routings = tuple(
            make_routing(problem, instance, inputs.x.device, self._seed)
            for instance in range(self._instances)
        )
        layer = self._provider.prepare(inputs)
        prepared = _Prepared(inputs, layer, routings, moe_twin(inputs))
        self._prepared = problem, prepared
        return prepared

    def _release(self) -> None:
        self._prepared = self._weights = None
        if self._place.is_gpu:
            torch.cuda.empty_cache()


def _take_gpu(index: int, *, cold_l2: bool) -> Device:
    count = torch.cuda.device_count()
    if index >= count:
        raise DeviceError(f"no GPU {index}: PyTorch sees {count}; check CUDA_VISIBLE_DEVICES")
    torch.cuda.set_device(index)
    torch.backends.cuda.matmul.allow_tf32 = False  # the twin is true fp32
    return device_of(torch.cuda.get_device_properties(index), cold_l2=cold_l2)


def _clock(index: int | None) -> Clock:
    if index is None:
        return HostClock()
    return CudaClock(torch.cuda.get_device_properties(index).L2_cache_size)


def _is_fatal(error: Exception) -> bool:
    """A poisoned CUDA context is no failure to compile: the process must go."""
    return "CUDA error" in str(error)
