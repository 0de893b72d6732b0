"""``compare``: implementations of one layer side by side, without tuning and without a storage.

Rounds go over all lines of a batch size before the next one: a clock that drifts drifts for all.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np

from autotune.backends.gpu.providers import PROVIDERS
from autotune.backends.options import MeasurerOptions
from autotune.errors import MissingProvider, ProviderError, UsageError
from autotune.settings import ModelSettings
from autotune.spec.config import AnyConfig
from autotune.spec.device import Device
from autotune.spec.measurement import Measurement
from autotune.spec.problem import Problem
from autotune.studies.outcome import Outcome, TrialResult
from autotune.tune.comparison.variants import Line, lines_of
from autotune.tune.jobs import jobs_of, model_shape
from autotune.tune.processes.child import Call, Child, Closable
from autotune.tune.processes.dispatch import answer_to
from autotune.tune.processes.remote_measurer import result_of

_log = logging.getLogger(__name__)

ROUNDS = 2
"""Of all lines of a batch size; each gives ten samples."""
_QUANTILES = (0.5, 0.2, 0.8)
"""Those of the engines' scripts: middle, low, high."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CompareSettings:
    """Everything that a comparison is started with."""

    model: ModelSettings
    gpu: int | None
    """None: on the CPU."""
    providers: tuple[str, ...]
    engines: tuple[str, ...] = ("sglang", "vllm")
    """Whose defaults and files our kernels are timed with."""
    config_files: tuple[tuple[str, Path], ...] = ()
    """(label, engine file), each timed with our kernels and with those of the engines."""
    output_dir: Path = Path("configs")
    """Where tuned files are looked for."""
    options: MeasurerOptions
    run_timeout_s: float = 600.0


@dataclass(frozen=True, slots=True)
class Point:
    """One line at one batch size."""

    tokens: int
    line: Line
    config: AnyConfig | None
    result: TrialResult

    @property
    def quantiles_us(self) -> tuple[float, float, float] | None:
        """Middle, low and high; None where nothing was measured."""
        if self.result.measurement is None:
            return None
        middle, low, high = np.quantile(self.result.measurement.samples_us, _QUANTILES)
        return float(middle), float(low), float(high)


@dataclass(frozen=True, slots=True)
class Comparison:
    """What was found."""

    model: str
    problem: Problem
    """Of the largest batch size."""
    device: Device | None
    """None: the CPU."""
    lines: tuple[Line, ...]
    points: tuple[Point, ...]
    skipped: dict[str, str]
    """Provider or line → why it is not, or not everywhere, there."""
    failed: bool
    """A provider of an unknown version, or a line that crashed or computed wrongly."""
    about: dict[str, tuple[str, str]]
    """Provider → its version, and what a timed call of it does."""


@dataclass(slots=True)
class _Found:
    """Providers that could be opened, and why others could not."""

    children: dict[str, Child] = field(default_factory=dict)
    about: dict[str, tuple[str, str]] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    failed: bool = False


def compare(settings: CompareSettings) -> Comparison:
    """Measure every line at every batch size. Raises UsageError where nothing can be compared,
    DeviceError where there is no such GPU."""
    shape = model_shape(settings.model)
    problems = [job.problem for job in jobs_of(shape, settings.model, settings.engines[:1])]
    with ExitStack() as stack:
        found, device = _open(settings, stack)
        if not found.children:
            reasons = "; ".join(found.skipped.values())
            raise UsageError(f"none of {', '.join(settings.providers)} can be used: {reasons}")
        lines = [line for name in found.children for line in lines_of(name, settings, device)]
        points = []
        for problem in problems:
            at_size = _points(problem, device, lines, found, settings)
            _log.info("batch size %d: %s", problem.tokens, _words(at_size))
            points += at_size
    return Comparison(
        model=shape.name,
        problem=problems[-1],
        device=device,
        lines=tuple(lines),
        points=tuple(points),
        skipped=found.skipped | _not_everywhere(points),
        failed=found.failed or any(map(_is_failure, points)),
        about=found.about,
    )


def _open(settings: CompareSettings, stack: ExitStack) -> tuple[_Found, Device | None]:
    found = _Found()
    shared = _child(settings, stack)
    device = shared.call(_Measurers.device)
    for name in settings.providers:
        child = _child(settings, stack) if PROVIDERS[name].changes_process else shared
        try:
            found.about[name] = child.call(_Measurers.about, name)
            found.children[name] = child
        except MissingProvider as error:
            found.skipped[name] = str(error)
        except ProviderError as error:
            found.skipped[name], found.failed = str(error), True
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

    def measure(self, provider: str, problem: Problem, config: AnyConfig | None) -> TrialResult:
        """Verify and time the provider's layer."""


def _open_providers(gpu: int | None, options: MeasurerOptions) -> _Measurers:
    """Open them in the child: torch is imported there alone."""
    from autotune.backends.gpu.measurer import open_providers

    return open_providers(gpu, options)


def _points(
    problem: Problem,
    device: Device | None,
    lines: Sequence[Line],
    found: _Found,
    settings: CompareSettings,
) -> list[Point]:
    configs = {line: line.config_for(problem, device) for line in lines}
    results: dict[Line, TrialResult] = {}
    for _ in range(ROUNDS):
        for line, config in configs.items():
            before = results.get(line)
            if line.needs_config and config is None and device is not None:
                continue
            if before is not None and before.outcome is not Outcome.OK:
                continue
            child = found.children[line.provider]
            call = Call.of(_Measurers.measure, line.provider, problem, config)
            answer = answer_to(child, call, settings.run_timeout_s)
            now = result_of(answer)
            results[line] = _joined(before, now)
    return [Point(problem.tokens, line, configs[line], r) for line, r in results.items()]


def _joined(before: TrialResult | None, now: TrialResult) -> TrialResult:
    """Samples of both rounds; the largest error of both."""
    if before is None or before.measurement is None or now.measurement is None:
        return now
    samples = before.measurement.samples_us + now.measurement.samples_us
    error = max(before.relative_error or 0.0, now.relative_error or 0.0)
    measurement = Measurement(samples, now.measurement.how)
    return replace(now, measurement=measurement, relative_error=error)


def _is_failure(point: Point) -> bool:
    """That a config is too large for the GPU, or a dtype nothing for a provider, is an answer."""
    answers = (Outcome.OK, Outcome.INFEASIBLE, Outcome.OUT_OF_RESOURCES)
    return point.result.outcome not in answers


def _not_everywhere(points: Sequence[Point]) -> dict[str, str]:
    """Line → the outcome and reason at its first batch size without a time."""
    reasons: dict[str, str] = {}
    for point in points:
        if point.result.outcome is not Outcome.OK:
            outcome, where = point.result.outcome.value, f"at {point.tokens} tokens"
            words = point.result.reason
            if point.result.outcome is not Outcome.INFEASIBLE:
                words = f"{outcome}: {words}"
            reasons.setdefault(point.line.name, f"{where}: {words}")
    return reasons


def _words(points: Sequence[Point]) -> str:
    return ", ".join(_time_words(points)) or "nothing measured"


def _time_words(points: Sequence[Point]) -> Iterator[str]:
    for point in points:
        quantiles = point.quantiles_us
        yield f"{point.line.name} " + (
            f"{quantiles[0]:.1f} µs" if quantiles else point.result.outcome.value
        )
