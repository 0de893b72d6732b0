"""Verifies and times a provider's layer. Lives in a child process, where engines are imported."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor
from triton.runtime.errors import OutOfResources

from autotune.backends.gpu.measurer import INSTANCES, device_of
from autotune.backends.gpu.providers import Layer, Place, Provider, open_provider
from autotune.backends.options import MeasurerOptions
from autotune.backends.protocol import timed_together
from autotune.errors import DeviceError
from autotune.kernels.compile import COMPILER_ERRORS, CompileFailure, failure_of
from autotune.kernels.host_clock import HostClock
from autotune.kernels.inputs import (
    MoeInputs,
    MoeWeights,
    RoutingTensors,
    make_inputs,
    make_routing,
    make_weights,
)
from autotune.kernels.reference import moe_reference
from autotune.kernels.stderr_capture import captured_stderr
from autotune.kernels.timing import Clock, CudaClock, EventTimer, GraphTimer, Timer, interleaved
from autotune.kernels.verify import TOLERANCE, Verdict, relative_error
from autotune.routing.draw import instances_of
from autotune.spec.config import AnyConfig
from autotune.spec.device import Device, Target
from autotune.spec.measurement import Measurement
from autotune.spec.problem import Problem, weights_key
from autotune.studies.outcome import Outcome, TrialResult
from autotune.studies.search.pruning import Stop, taken

_CPU = Place("cpu", Target("cuda", 90))
"""What the dtypes' storage types are taken from; nothing is compiled for it."""


@dataclass(frozen=True, slots=True)
class _Prepared:
    inputs: MoeInputs
    layer: Layer
    routings: tuple[RoutingTensors, ...]
    reference: Tensor
    """Of the first routing instance, by the eager twin."""


_Timed = Callable[[_Prepared, "AnyConfig | None"], TrialResult]
"""What is done with a layer that computes the right thing."""


class Bench:
    """A GPU, or the CPU, and the weights that the providers of this process share."""

    def __init__(self, index: int | None, options: MeasurerOptions, instances: int) -> None:
        self.cold, self.seed, self.instances = options.cold_l2, options.seed, instances
        self.device = None if index is None else _take_gpu(index, cold_l2=options.cold_l2)
        self.place = Place(f"cuda:{index}", self.device.target) if self.device else _CPU
        self.clock = _clock(index)
        self._weights: tuple[Problem, MoeWeights] | None = None

    def weights(self, problem: Problem) -> MoeWeights:
        """Those of the problem; they outlive a change of its tokens."""
        key = weights_key(problem)
        if self._weights is None or self._weights[0] != key:
            self.release()
            place = self.place
            self._weights = key, make_weights(problem, place.target, place.name, self.seed)
        return self._weights[1]

    def release(self) -> None:
        self._weights = None
        if self.place.is_gpu:
            torch.cuda.empty_cache()


class ProviderTimer:
    """Verifies and times one provider's layer."""

    def __init__(self, provider: str, bench: Bench) -> None:
        """Raises as ``open_provider`` does."""
        self._bench = bench
        self._provider: Provider = open_provider(provider, bench.place)
        self._prepared: tuple[Problem, _Prepared] | None = None

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
        self, problem: Problem, config: AnyConfig | None, *, stop: Stop | None = None
    ) -> TrialResult:
        """See ``Measurer``; ``config`` None is what the provider chooses for itself."""
        return self._answer(problem, config, partial(self._timed, stop=stop))

    def measure_interleaved(
        self, problem: Problem, configs: Sequence[AnyConfig]
    ) -> tuple[TrialResult, ...]:
        """See ``Measurer``. One after the other where together they take too much memory."""
        checked = [self._answer(problem, config, _untimed) for config in configs]
        with suppress(torch.OutOfMemoryError):
            return timed_together(
                checked, lambda right: self._interleaved(problem, [configs[n] for n in right])
            )
        self._release()
        return tuple(self.measure(problem, config) for config in configs)

    def _interleaved(self, problem: Problem, configs: Sequence[AnyConfig]) -> list[Measurement]:
        prepared = self._prepare(problem)
        streams = [self._samples(prepared, config) for config in configs]
        return [self._of(prepared, us) for us in interleaved(streams, len(prepared.routings))]

    def _answer(self, problem: Problem, config: AnyConfig | None, timed: _Timed) -> TrialResult:
        reason = self._provider.why_not(problem)
        if reason is not None:
            return TrialResult(Outcome.INFEASIBLE, reason=reason)
        try:
            prepared = self._prepare(problem)
            verdict = self._verify(prepared, config)
            if isinstance(verdict, CompileFailure):
                return TrialResult(Outcome.COMPILE_ERROR, reason=verdict.reason)
            error = verdict.relative_error
            if not verdict.is_right:
                reason = str(verdict)
                return TrialResult(Outcome.WRONG_RESULT, reason=reason, relative_error=error)
            return replace(timed(prepared, config), relative_error=error)
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

    def _timed(
        self, prepared: _Prepared, config: AnyConfig | None, *, stop: Stop | None
    ) -> TrialResult:
        rows = ((us,) for us in self._samples(prepared, config))
        kept, cut = taken(rows, len(prepared.routings), stop)
        measurement = self._of(prepared, [us for (us,) in kept])
        return TrialResult(
            Outcome.PRUNED if cut else Outcome.OK,
            replace(measurement, extrapolated_us=cut.geomean_us if cut else None),
            reason=cut.reason if cut else "",
        )

    def _of(self, prepared: _Prepared, samples_us: Sequence[float]) -> Measurement:
        return Measurement(
            tuple(samples_us),
            f"{self._how(prepared.layer)}, {len(samples_us)} routings",
            routings=len(prepared.inputs.problem.routings),
        )

    def _samples(self, prepared: _Prepared, config: AnyConfig | None) -> Iterator[float]:
        layer = prepared.layer
        instances = (partial(layer.route, routing) for routing in prepared.routings)

        def call() -> None:
            layer.run(config)

        return self._timer(layer).samples(call, instances)

    def _timer(self, layer: Layer) -> Timer:
        bench = self._bench
        kind = GraphTimer if bench.place.is_gpu and layer.is_capturable else EventTimer
        return kind(bench.clock, warm=not bench.cold)

    def _how(self, layer: Layer) -> str:
        if self._bench.place.is_gpu:
            return self._timer(layer).how
        return f"CPU, the host's clock, {'cold' if self._bench.cold else 'warm'} caches"

    def _prepare(self, problem: Problem) -> _Prepared:
        if self._prepared and self._prepared[0] == problem:
            return self._prepared[1]
        self._prepared = None
        bench = self._bench
        weights = bench.weights(problem)
        inputs = make_inputs(problem, weights, bench.place.target, seed=bench.seed)
        routings = tuple(
            make_routing(problem, instance, inputs.x.device, bench.seed)
            for instance in range(instances_of(problem, bench.instances))
        )
        layer = self._provider.prepare(inputs)
        prepared = _Prepared(inputs, layer, routings, moe_reference(inputs))
        self._prepared = problem, prepared
        return prepared

    def _release(self) -> None:
        self._prepared = None
        self._bench.release()


class ProviderTimers:
    """What a child process answers with: timers of several providers, opened when first named."""

    def __init__(
        self, index: int | None, options: MeasurerOptions, instances: int = INSTANCES
    ) -> None:
        """GPU ``index``, None for the CPU. Raises DeviceError where there is no such GPU."""
        self._bench = Bench(index, options, instances)
        self._timers: dict[str, ProviderTimer] = {}

    @property
    def device(self) -> Device | None:
        """The GPU; None on the CPU."""
        return self._bench.device

    def about(self, provider: str) -> tuple[str, str]:
        """Its version, and what a timed call of it does. Raises as ``open_provider`` does."""
        timer = self.timer(provider)
        return timer.version, timer.does

    def measure(self, provider: str, problem: Problem, config: AnyConfig | None) -> TrialResult:
        """See ``ProviderTimer``."""
        return self.timer(provider).measure(problem, config)

    def timer(self, provider: str) -> ProviderTimer:
        """See ``ProviderTimer``."""
        if provider not in self._timers:
            self._timers[provider] = ProviderTimer(provider, self._bench)
        return self._timers[provider]

    def close(self) -> None:
        for timer in self._timers.values():
            timer.close()


def _untimed(prepared: _Prepared, config: AnyConfig | None) -> TrialResult:
    """Compiled and verified is enough."""
    return TrialResult(Outcome.OK)


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
