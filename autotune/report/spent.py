"""What the seconds of a study went to."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from optuna.trial import FrozenTrial


@dataclass(frozen=True, slots=True)
class Spent:
    """Seconds of trials from ask to tell, added; trials side by side count each."""

    compile_s: float
    measure_s: float
    """0 where trials do not say (``measure_s`` is younger than ``compile_s``)."""
    rest_s: float
    """Loading, verifying and waiting; measuring too where trials do not say."""

    @property
    def total_s(self) -> float:
        return self.compile_s + self.measure_s + self.rest_s


def spent_on(trials: Iterable[FrozenTrial]) -> Spent:
    """Trials that have ended; one that was interrupted counts as waiting."""
    compile_s = measure_s = rest_s = 0.0
    for trial in trials:
        if trial.duration is None:
            continue
        total = trial.duration.total_seconds()
        compiling = min(float(trial.user_attrs.get("compile_s", 0.0)), total)
        measuring = min(float(trial.user_attrs.get("measure_s", 0.0)), total - compiling)
        compile_s += compiling
        measure_s += measuring
        rest_s += total - compiling - measuring
    return Spent(compile_s, measure_s, rest_s)


def wall_s(trials: Iterable[FrozenTrial]) -> float:
    """Seconds in which at least one of the trials was in work."""
    spans = sorted(
        (trial.datetime_start, trial.datetime_complete)
        for trial in trials
        if trial.datetime_start is not None and trial.datetime_complete is not None
    )
    total, until = 0.0, None
    for start, end in spans:
        begin = start if until is None else max(start, until)
        total += max((end - begin).total_seconds(), 0.0)
        until = end if until is None else max(until, end)
    return total
