"""The seconds of a study: compiling, verifying, measuring, the rest."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from optuna.trial import FrozenTrial

from autotune.studies.trial_record import PHASES_S

_ON_DEVICE = PHASES_S[:3]
"""Phases that are part of a trial's duration: what is compiled ahead goes on beside others."""


@dataclass(frozen=True, slots=True)
class TimeBreakdown:
    """Seconds of trials from ask to tell, added; trials side by side count each."""

    compile_s: float
    verify_s: float
    """Comparing with the reference. 0 where nothing is run."""
    measure_s: float
    """0 where trials do not say (``measure_s`` is younger than ``compile_s``)."""
    rest_s: float
    """Loading and waiting; measuring too where trials do not say."""


def spent_on(trials: Iterable[FrozenTrial]) -> TimeBreakdown:
    """Add up the seconds of trials that have ended; one that was interrupted counts as waiting."""
    said = dict.fromkeys(_ON_DEVICE, 0.0)
    rest_s = 0.0
    for trial in trials:
        if trial.duration is None:
            continue
        left = trial.duration.total_seconds()
        for name in _ON_DEVICE:
            seconds = min(float(trial.user_attrs.get(name, 0.0)), left)
            said[name] += seconds
            left -= seconds
        rest_s += left
    return TimeBreakdown(**said, rest_s=rest_s)


def wall_s(trials: Iterable[FrozenTrial]) -> float:
    """Return the seconds in which at least one of the trials was in work."""
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
