"""``compare``: implementations of one layer side by side, without tuning and without a storage.

Rounds go over all variants of a batch size before the next one: a clock that drifts drifts for all.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import groupby
from typing import Protocol

import numpy as np

from autotune.backends.binaries import Binaries
from autotune.backends.gpu.providers import PROVIDERS
from autotune.backends.protocol import MeasurerOptions
from autotune.engines import ENGINES
from autotune.errors import MissingProvider, ProviderError, UsageError
from autotune.models.shape import ModelShape
from autotune.settings import ModelSettings
from autotune.spec.config import AnyConfig
from autotune.spec.device import Device
from autotune.spec.measurement import Measurement
from autotune.spec.problem import Problem
from autotune.studies.outcome import Outcome, TrialResult
from autotune.tuning.comparison.variants import ConfigSources, Variant, variants_of
from autotune.tuning.compile_service.ahead import cache_of, compile_ahead, opened_pool
from autotune.tuning.compile_service.pool import default_jobs
from autotune.tuning.jobs import jobs_of, model_shape
from autotune.tuning.processes.child import Call, Child, ChildFault, Closable
from autotune.tuning.processes.dispatch import answer_to, result_of

_log = logging.getLogger(__name__)

ROUNDS = 2
"""Rounds over all variants of a batch size; each gives ten samples."""
Layers = Mapping[str, Problem]
"""Engine → the problem that it serves at one batch size; never empty."""
_Launch = tuple[Problem, AnyConfig | None]
_QUANTILES = (0.5, 0.2, 0.8)
"""Quantiles of the engines' scripts: middle, low, high."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CompareSettings:
    """The settings that a comparison is started with."""

    model: ModelSettings
    gpu: int | None
    """Index of the GPU; None for the CPU."""
    providers: tuple[str, ...]
    sources: ConfigSources
    options: MeasurerOptions
    run_timeout_s: float = 600.0


@dataclass(frozen=True, slots=True)
class VariantTime:
    """The result of one variant at one batch size."""

    tokens: int
    variant: Variant
    config: AnyConfig | None
    result: TrialResult

    @property
    def quantiles_us(self) -> tuple[float, float, float] | None:
        """Middle, low and high quantile; None where nothing was measured."""
        if self.result.measurement is None:
            return None
        middle, low, high = np.quantile(self.result.measurement.samples_us, _QUANTILES)
        return float(middle), float(low), float(high)


@dataclass(frozen=True, slots=True)
class Comparison:
    """The results of a comparison."""

    model: str
    problem: Problem
    """The first engine's problem of the largest batch size; lines that are nobody's own have it."""
    device: Device | None
    """Facts of the GPU; None for the CPU."""
    variants: tuple[Variant, ...]
    times: tuple[VariantTime, ...]
    skipped: dict[str, str]
    """Provider or variant → why it is not, or not everywhere, there."""
    failed: bool
    """True if a provider is of an unknown version, or a variant crashed or computed wrongly."""
    about: dict[str, tuple[str, str]]
    """Provider → its version, and what a timed call of it does."""
    layers: Mapping[str, Problem] = field(default_factory=dict)
    """Engine → its own problem of the largest batch size."""

    @property
    def layer_words(self) -> dict[str, str]:
        """Return engine → the layer that its lines compute, where they are unlike."""
        words = {name: problem.name.rpartition(" M=")[0] for name, problem in self.layers.items()}
        return words if len(set(words.values())) > 1 else {}


@dataclass(slots=True)
class _Found:
    """Providers that could be opened, and why others could not."""

    children: dict[str, Child] = field(default_factory=dict)
    about: dict[str, tuple[str, str]] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    failed: bool = False


def compare(settings: CompareSettings) -> Comparison:
    """Measure every variant at every batch size. Raises UsageError where nothing can be compared,
    DeviceError where there is no such GPU."""
    shape = model_shape(settings.model)
    layers = list(layers_of(shape, settings.model, settings.sources.engines))
    with ExitStack() as stack:
        found, device = _open(settings, stack)
        if not found.children:
            reasons = "; ".join(found.skipped.values())
            raise UsageError(f"none of {', '.join(settings.providers)} can be used: {reasons}")
        refusing = set(settings.sources.engines) - layers[0].keys()
        variants = [
            variant
            for name in found.children
            for variant in variants_of(name, settings.sources, device)
            if variant.engine not in refusing
        ]
        for name in refusing:
            found.skipped.setdefault(name, f"{ENGINES[name].title} does not serve this model so")
        if device is not None:
            for name, child in found.children.items():
                own = [variant for variant in variants if variant.provider == name]
                launches = [_launches(own, at_size, device) for at_size in layers]
                _compile_ahead(name, child, device, launches, settings)
        times = []
        for at_size in layers:
            timed = _times(_launches(variants, at_size, device), found, settings)
            _log.info("batch size %d: %s", _first(at_size).tokens, _words(timed))
            times += timed
    return Comparison(
        model=shape.name,
        problem=_first(layers[-1]),
        device=device,
        variants=tuple(variants),
        times=tuple(times),
        skipped=found.skipped | _not_everywhere(times),
        failed=found.failed or any(map(_is_failure, times)),
        about=found.about,
        layers=layers[-1],
    )


def layers_of(
    shape: ModelShape, settings: ModelSettings, engines: Sequence[str]
) -> Iterator[Layers]:
    """Yield the engines' problems of every batch size, ascending."""
    jobs = jobs_of(shape, settings, engines)
    for _, at_size in groupby(jobs, key=lambda job: job.problem.tokens):
        yield {engine.name: job.problem for job in at_size for engine in job.engines}


def _first(layers: Layers) -> Problem:
    return next(iter(layers.values()))


def _open(settings: CompareSettings, stack: ExitStack) -> tuple[_Found, Device | None]:
    found = _Found()
    shared = _child(settings, stack)
    device = shared.call(_Measurers.device)
    for name in settings.providers:
        child = _child(settings, stack) if PROVIDERS[name].changes_process else shared
        try:
            answer = answer_to(child, Call.of(_Measurers.about, name), settings.run_timeout_s)
        except MissingProvider as error:
            found.skipped[name] = str(error)
        except ProviderError as error:
            found.skipped[name], found.failed = str(error), True
        else:
            if isinstance(answer, ChildFault):
                found.skipped[name] = f"{name} cannot be used: {answer.reason}"
                found.failed = True
            else:
                found.about[name], found.children[name] = answer, child
    return found, device


def _child(settings: CompareSettings, stack: ExitStack) -> Child:
    child = Child(partial(_open_providers, settings.gpu, settings.options))
    stack.callback(child.close)
    return child


class _Measurers(Closable, Protocol):
    """The measurers of providers, which a child holds: ``ProviderMeasurers``."""

    @property
    def device(self) -> Device | None:
        """The GPU's facts; None for the CPU."""

    def about(self, provider: str) -> tuple[str, str]:
        """Return the provider's version, and what a timed call of it does."""

    def binaries(
        self, provider: str, problem: Problem, configs: tuple[AnyConfig | None, ...]
    ) -> tuple[Binaries, ...]:
        """Return, for each config, what ``measure`` compiles and other processes can."""

    def measure(self, provider: str, problem: Problem, config: AnyConfig | None) -> TrialResult:
        """Verify and time the provider's layer."""


def _open_providers(gpu: int | None, options: MeasurerOptions) -> _Measurers:
    """Open them in the child: torch is imported there alone."""
    from autotune.backends.gpu.provider_measurers import open_providers

    return open_providers(gpu, options)


def _launches(
    variants: Sequence[Variant], layers: Layers, device: Device | None
) -> dict[Variant, _Launch]:
    """Return what each variant computes at a batch size, and with what, None for what its provider
    chooses; without those that have nothing for a problem on a GPU."""
    launches = {}
    for variant in variants:
        problem = layers.get(variant.engine or "", _first(layers))
        config = variant.config_for(problem, device)
        if config or not variant.source or not device:
            launches[variant] = (problem, config)
    return launches


def _compile_ahead(
    provider: str,
    child: Child,
    device: Device,
    launches: Sequence[Mapping[Variant, _Launch]],
    settings: CompareSettings,
) -> None:
    jobs = default_jobs()
    with opened_pool(f"cuda:{settings.gpu}", provider, jobs) as pool:
        if pool is None:
            return
        pool.start(
            device.target, jobs, cache=cache_of(provider, settings.options.cache_dir, device.target)
        )
        wanted: dict[Problem, dict[AnyConfig | None, None]] = {}
        for at_size in launches:
            for problem, config in at_size.values():
                wanted.setdefault(problem, {})[config] = None
        calls = (
            Call.of(_Measurers.binaries, provider, problem, tuple(configs))
            for problem, configs in wanted.items()
        )
        compile_ahead(pool, child, calls, settings.run_timeout_s)


def _times(
    launches: Mapping[Variant, _Launch], found: _Found, settings: CompareSettings
) -> list[VariantTime]:
    results: dict[Variant, TrialResult] = {}
    for _ in range(ROUNDS):
        for variant, (problem, config) in launches.items():
            before = results.get(variant)
            if before is not None and before.outcome is not Outcome.OK:
                continue
            child = found.children[variant.provider]
            call = Call.of(_Measurers.measure, variant.provider, problem, config)
            answer = answer_to(child, call, settings.run_timeout_s)
            now = result_of(answer)
            results[variant] = _joined(before, now)
    asked = ((variant, *launches[variant], result) for variant, result in results.items())
    return [VariantTime(problem.tokens, v, config, result) for v, problem, config, result in asked]


def _joined(before: TrialResult | None, now: TrialResult) -> TrialResult:
    """Samples of both rounds; the largest error of both."""
    if before is None or before.measurement is None or now.measurement is None:
        return now
    samples = before.measurement.samples_us + now.measurement.samples_us
    error = max(before.relative_error or 0.0, now.relative_error or 0.0)
    measurement = Measurement(samples, now.measurement.how)
    return replace(now, measurement=measurement, relative_error=error)


def _is_failure(time: VariantTime) -> bool:
    """True if a result is no answer: a config may be too large for the GPU, or a dtype nothing for
    a provider."""
    answers = (Outcome.OK, Outcome.INFEASIBLE, Outcome.OUT_OF_RESOURCES)
    return time.result.outcome not in answers


def _not_everywhere(times: Sequence[VariantTime]) -> dict[str, str]:
    """Variant → the outcome and reason at its first batch size without a time."""
    reasons: dict[str, str] = {}
    for time in times:
        if time.result.outcome is not Outcome.OK:
            outcome, where = time.result.outcome.value, f"at {time.tokens} tokens"
            words = time.result.reason
            if time.result.outcome is not Outcome.INFEASIBLE:
                words = f"{outcome}: {words}"
            reasons.setdefault(time.variant.name, f"{where}: {words}")
    return reasons


def _words(times: Sequence[VariantTime]) -> str:
    return ", ".join(_time_words(times)) or "nothing measured"


def _time_words(times: Sequence[VariantTime]) -> Iterator[str]:
    for time in times:
        quantiles = time.quantiles_us
        yield f"{time.variant.name} " + (
            f"{quantiles[0]:.1f} µs" if quantiles else time.result.outcome.value
        )
