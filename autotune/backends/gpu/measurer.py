"""Measures a provider's layer on a testbed: compile, verify against the reference, time.

Lives in a child process (tuning/processes). What a config can cause and leave the process whole is
an outcome; an illegal memory access poisons the CUDA context, so it is raised and the child is
started afresh.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property, partial
from typing import TypeVar

from triton.runtime.errors import OutOfResources

from autotune.backends.binaries import Binaries
from autotune.backends.estimate.model import static_us
from autotune.backends.gpu.device_errors import (
    first_line,
    is_harmless,
    is_of_driver,
    is_out_of_memory,
)
from autotune.backends.gpu.providers import Provider, ProviderLayer, open_provider
from autotune.backends.gpu.providers.base import Halves
from autotune.backends.gpu.providers.engine import leave_files_of
from autotune.backends.gpu.tensor_cache import PreparedLayer
from autotune.backends.gpu.testbed import Testbed, take_device
from autotune.backends.hardware import known_spec
from autotune.backends.protocol import INSTANCES, MeasurerOptions
from autotune.errors import DeviceError
from autotune.kernels.compile import COMPILER_ERRORS, captured_stderr, failure_of
from autotune.kernels.inputs import RoutingTensors
from autotune.kernels.timing import REST, Timer, interleaved
from autotune.kernels.verify import Verdict
from autotune.spec.binary import BOTH
from autotune.spec.config import AnyConfig, ConfigPair, pair_of
from autotune.spec.device import Device
from autotune.spec.limits import why_no_dtype
from autotune.spec.measurement import CompileFailure, Measurement, Resources, worse_of
from autotune.spec.occupancy import held_blocks
from autotune.spec.problem import KernelMode, Problem
from autotune.studies.outcome import Outcome, TrialResult, failed_compile
from autotune.studies.pairs import completed_as_asked, space_of
from autotune.studies.search.pruning import Row, Stop, taken
from autotune.studies.space import SearchSpace, broken_rule

Value = TypeVar("Value")

_Timed = Callable[[PreparedLayer, "AnyConfig | None"], TrialResult]
"""A way to time a config that computes the right thing."""


class GpuMeasurer:
    """Implements Measurer over one provider, whatever it declares to be able to do."""

    def __init__(self, provider: Provider, testbed: Testbed) -> None:
        """``provider`` was opened for the testbed's site."""
        self.provider = provider
        self._testbed = testbed
        self._own: dict[Problem, AnyConfig | None] = {}
        self._right: dict[tuple[Problem, AnyConfig | None], Verdict] = {}
        """Of what was verified by this process, and was right: it is not verified again."""

    @cached_property
    def device(self) -> Device:
        """Facts of the GPU. The provider and its version are in the device's method, so that its
        studies never mix with ours."""
        facts = self._testbed.facts
        if facts is None:
            raise DeviceError("the CPU is no device to tune for; use cuda or estimate:NVIDIA_H200")
        return replace(facts, method=self.provider.method_prefix + facts.method)

    def space(self, problem: Problem) -> SearchSpace:
        device = self.device
        reason = why_no_dtype(problem.dtype, device.target) or self.provider.why_not(problem)
        if reason:
            raise DeviceError(f"{device.name}: {reason}")
        return space_of(problem, device)

    def prior_us(
        self, problem: Problem, configs: tuple[AnyConfig, ...]
    ) -> tuple[float, ...] | None:
        """The time model's guess where this GPU's figures are known."""
        spec = known_spec(self.device.name)
        return static_us(problem, configs, spec, self._testbed.seed) if spec else None

    def own_config(self, problem: Problem) -> AnyConfig | None:
        """Asked of the provider's own call, once: its lookup, its files and its default. A pair of
        a fused problem is a config that no space has."""
        if problem not in self._own:
            own = self._ask(problem, lambda layer: layer.own_config(), None)
            if own is not None and (not isinstance(own, ConfigPair) or self._has_halves(problem)):
                own = completed_as_asked(problem, self.device, own)
            self._own[problem] = own
        return self._own[problem]

    def binaries(self, problem: Problem, configs: tuple[AnyConfig, ...]) -> tuple[Binaries, ...]:
        """One turn on the GPU serves all: each takes 3 ms, others' turns ten times that."""
        if not configs:
            return ()
        with self._testbed.taken():
            self.own_config(problem)  # known before configs are compared with it
            return tuple(
                {} if self._broken_rule(problem, c) else self.binaries_of_any(problem, c)
                for c in configs
            )

    def binaries_of_any(self, problem: Problem, config: AnyConfig | None) -> Binaries:
        """Return what ``measure_any`` compiles."""
        config = self._launched(problem, config)
        return self._ask(problem, partial(_binaries, config=config), {})

    def measure(
        self, problem: Problem, config: AnyConfig, *, stop: Stop | None = None
    ) -> TrialResult:
        """Registers and spills are not known where nothing is compiled before the first call, as
        of an engine's kernels that are not Triton's; compiling counts as verifying there."""
        self.own_config(problem)  # known before the config is compared with it
        broken = self._broken_rule(problem, config)
        return broken or self.measure_any(problem, config, stop=stop)

    def measure_any(
        self, problem: Problem, config: AnyConfig | None, *, stop: Stop | None = None
    ) -> TrialResult:
        """Measure a config whether or not it keeps the rules of the space; None is what the
        provider chooses for itself."""
        with self._testbed.taken() as turn_s:
            result = self._answer(problem, config, partial(self._timed, stop=stop))
        return replace(result, turn_s=turn_s)

    def measure_interleaved(
        self, problem: Problem, configs: tuple[AnyConfig, ...]
    ) -> tuple[TrialResult, ...]:
        """Each is compiled and verified first, the right ones are timed then; where their graphs
        together take more memory than there is, one after the other."""
        self.own_config(problem)  # known before configs are compared with it
        with self._testbed.taken():
            return self._measure_interleaved(problem, configs)

    def close(self) -> None:
        """The provider is closed also where the GPU fails as tensors are released."""
        try:
            self._testbed.tensors.release()
        finally:
            self.provider.close()

    def _measure_interleaved(
        self, problem: Problem, configs: tuple[AnyConfig, ...]
    ) -> tuple[TrialResult, ...]:
        checked = [
            self._broken_rule(problem, config) or self._answer(problem, config, _untimed)
            for config in configs
        ]
        right = [number for number, result in enumerate(checked) if result.outcome is Outcome.OK]
        measurements = self._interleaved(problem, [configs[number] for number in right])
        if measurements is None:
            self._testbed.tensors.release_unused()
            return tuple(self.measure(problem, config) for config in configs)
        found = dict(zip(right, measurements, strict=True))
        return tuple(
            replace(result, measurement=found.get(number)) for number, result in enumerate(checked)
        )

    def _ask(
        self, problem: Problem, question: Callable[[ProviderLayer], Value], none: Value
    ) -> Value:
        """Return the layer's answer; ``none`` where it has none, and ``measure`` will say why."""
        if self.provider.why_not(problem) is not None:
            return none
        tensors = self._testbed.tensors

        def ask() -> Value:
            try:
                return question(tensors.layer(problem, self.provider))
            except RuntimeError as error:
                if is_out_of_memory(error) or (is_of_driver(error) and not is_harmless(error)):
                    raise
            except (AssertionError, KeyError, TypeError, ValueError):
                pass  # the engine's own word for a config that it does not take
            return none

        with self._testbed.taken():
            return tensors.try_with_less(problem, ask, lambda _: none)

    def _launched(self, problem: Problem, config: AnyConfig | None) -> AnyConfig | None:
        """Return None for what the provider launches by itself: then it does."""
        return None if config == self._own.get(problem) else config

    def _broken_rule(self, problem: Problem, config: AnyConfig) -> TrialResult | None:
        if config == self._own.get(problem):
            return None
        if isinstance(config, ConfigPair) and not self.provider.takes_pairs:
            one_alone = "one config launches both GEMMs here, not a pair"
            return TrialResult(Outcome.INFEASIBLE, reason=one_alone)
        for which in BOTH:
            broken = broken_rule(problem, self.device, getattr(pair_of(config), which))
            if broken is not None:
                return TrialResult(Outcome.INFEASIBLE, reason=broken, failed_half=which)
        return None

    def _has_halves(self, problem: Problem) -> bool:
        """True where a pair is handed to the kernels, and each GEMM is timed by itself."""
        return problem.kernel is KernelMode.SEPARATE and self.provider.takes_pairs

    def _answer(self, problem: Problem, config: AnyConfig | None, timed: _Timed) -> TrialResult:
        why_not = self.provider.why_not(problem)
        if why_not is not None:
            return TrialResult(Outcome.INFEASIBLE, reason=why_not)
        begin = time.perf_counter()
        result = self._run(problem, self._launched(problem, config), timed)
        spent_s = time.perf_counter() - begin
        return replace(result, measure_s=spent_s - result.compile_s - result.verify_s)

    def _compiled(self, prepared: PreparedLayer, config: AnyConfig | None) -> TrialResult:
        """Return OK with what the binaries take, or with nothing where the first call compiles;
        else why they cannot be launched."""
        begin = time.perf_counter()
        try:
            answers = prepared.layer.compile(config)
        except ValueError as error:
            return TrialResult(Outcome.INFEASIBLE, reason=first_line(error))
        compile_s = time.perf_counter() - begin
        for which, answer in answers.items():
            if isinstance(answer, CompileFailure):
                return failed_compile(replace(answer, which=which), compile_s)
        if not answers:
            return TrialResult(Outcome.OK, compile_s=compile_s)
        resources = worse_of(*(a for a in answers.values() if isinstance(a, Resources)))
        need, have = resources.shared_bytes, self.device.shared_bytes
        too_big = f"needs {need} bytes of shared memory; a block has {have}" if need > have else ""
        return TrialResult(
            Outcome.OUT_OF_RESOURCES if too_big else Outcome.OK,
            reason=too_big,
            resources=resources,
            blocks_per_sm=held_blocks(config, answers, self.device) if config else None,
            compile_s=compile_s,
        )

    def _run(self, problem: Problem, config: AnyConfig | None, timed: _Timed) -> TrialResult:
        attempt = partial(self._attempt, problem, config, timed)
        try:
            return self._testbed.tensors.try_with_less(problem, attempt, _no_memory)
        except OutOfResources as error:
            return TrialResult(Outcome.OUT_OF_RESOURCES, reason=str(error))
        except RuntimeError as error:
            if not is_harmless(error):
                raise
            return TrialResult(Outcome.OUT_OF_RESOURCES, reason=first_line(error))

    def _attempt(self, problem: Problem, config: AnyConfig | None, timed: _Timed) -> TrialResult:
        prepared = self._prepare(problem)
        prepared.layer.route(prepared.routings[0])
        compiled = self._compiled(prepared, config)
        if compiled.outcome is not Outcome.OK:
            return compiled
        begin = time.perf_counter()
        verdict = self._right.get((problem, config)) or self._verify(
            prepared, config, is_compiled=compiled.resources is not None
        )
        verify_s = time.perf_counter() - begin
        if isinstance(verdict, CompileFailure):
            return replace(failed_compile(verdict), verify_s=verify_s)
        error = verdict.relative_error
        if not verdict.is_right:
            result = TrialResult(Outcome.WRONG_RESULT, reason=str(verdict))
        else:
            self._right[problem, config] = verdict
            result = timed(prepared, config)
        return replace(
            result,
            verify_s=verify_s,
            relative_error=error,
            resources=compiled.resources,
            blocks_per_sm=compiled.blocks_per_sm,
            compile_s=compiled.compile_s,
        )

    def _verify(
        self, prepared: PreparedLayer, config: AnyConfig | None, *, is_compiled: bool
    ) -> Verdict | CompileFailure:
        """Run one call and compare. Where it compiles, the compiler's dump is kept back."""
        if is_compiled:
            return prepared.layer.verify(config, prepared.reference)
        with captured_stderr() as dump:
            try:
                return prepared.layer.verify(config, prepared.reference)
            except OutOfResources:
                raise
            except COMPILER_ERRORS as error:
                if is_out_of_memory(error) or is_of_driver(error):
                    raise
                return failure_of(error, dump())

    def _timed(
        self, prepared: PreparedLayer, config: AnyConfig | None, *, stop: Stop | None
    ) -> TrialResult:
        kept, cut = taken(self._rows(prepared, config), len(prepared.routings), stop)
        measurement = self._measurement(prepared, kept)
        return TrialResult(
            outcome=Outcome.PRUNED if cut else Outcome.OK,
            measurement=replace(measurement, extrapolated_us=cut.geomean_us if cut else None),
            reason=cut.reason if cut else "",
        )

    def _interleaved(
        self, problem: Problem, configs: Sequence[AnyConfig]
    ) -> list[Measurement] | None:
        """Time all configs together; None where that takes too much memory."""
        if not configs:
            return []
        try:
            prepared = self._prepare(problem)
            streams = [self._rows(prepared, self._launched(problem, c)) for c in configs]
            found = interleaved(streams, len(prepared.routings))
            return [self._measurement(prepared, rows) for rows in found]
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
        return None

    def _measurement(self, prepared: PreparedLayer, rows: Sequence[Row]) -> Measurement:
        how = f"{self._timer(prepared).how}, {len(rows)} routings"
        columns = tuple(zip(*rows, strict=True))
        kinds = len(prepared.layer.inputs.problem.routings)
        if len(columns) == 2:
            how = f"GEMMs alone, {how}"
        return Measurement.of_columns(columns, how, kinds)

    def _rows(self, prepared: PreparedLayer, config: AnyConfig | None) -> Iterator[Row]:
        """Yield µs of the layer, or of separate GEMMs, one row for each routing instance."""
        if self._has_halves(prepared.layer.inputs.problem):
            return self._half_samples(prepared, config)
        return ((us,) for us in self._layer_samples(prepared, config))

    def _layer_samples(self, prepared: PreparedLayer, config: AnyConfig | None) -> Iterator[float]:
        """Yield µs of the whole layer, one for each routing instance."""
        instances = (partial(prepared.layer.route, r) for r in prepared.routings)
        return self._timer(prepared).samples(partial(_call, prepared.layer, config), instances)

    def _half_samples(self, prepared: PreparedLayer, config: AnyConfig | None) -> Iterator[Row]:
        """Yield (up, down) µs, one for each routing instance. Each is timed on what the layer gives
        it: a new routing runs the layer once before."""
        layer = prepared.layer
        layer.route(prepared.routings[0])
        halves = layer.halves(config)
        times = (
            self._timer(prepared).samples(
                half, (partial(_route_and_feed, layer, halves, r) for r in prepared.routings)
            )
            for half in (halves.up, halves.down)
        )
        yield from zip(*times, strict=True)

    def _timer(self, prepared: PreparedLayer) -> Timer:
        return self._testbed.timer(is_capturable=prepared.layer.is_capturable)

    def _prepare(self, problem: Problem) -> PreparedLayer:
        return self._testbed.tensors.prepare(problem, self.provider)


def open_gpu(
    index: int, options: MeasurerOptions, *, instances: int = INSTANCES, rest: float = REST
) -> GpuMeasurer:
    """Take GPU ``index`` and open the provider of the options. Raises DeviceError where there is no
    such GPU, and as ``open_provider`` does."""
    if options.output_dir is not None:
        leave_files_of(options.output_dir)
    testbed = Testbed(take_device(index, options), options, instances=instances, rest=rest)
    return GpuMeasurer(open_provider(options.provider, testbed.site), testbed)


def _no_memory(reason: str) -> TrialResult:
    return TrialResult(Outcome.OUT_OF_RESOURCES, reason=f"device memory: {reason}")


def _untimed(prepared: PreparedLayer, config: AnyConfig | None) -> TrialResult:
    """Return OK: compiled and verified is enough."""
    return TrialResult(Outcome.OK)


def _binaries(layer: ProviderLayer, config: AnyConfig | None) -> Binaries:
    return layer.binaries(config)


def _call(layer: ProviderLayer, config: AnyConfig | None) -> None:
    layer.run(config)


def _route_and_feed(layer: ProviderLayer, halves: Halves, routing: RoutingTensors) -> None:
    layer.route(routing)
    halves.feed()
