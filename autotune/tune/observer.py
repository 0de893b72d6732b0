"""What a run tells to whoever watches it."""

from __future__ import annotations

from typing import Protocol

from autotune.spec.config import AnyConfig
from autotune.studies.outcome import TrialResult
from autotune.tune.tuning_study import TuningStudy


class Observer(Protocol):
    """Whoever wants to see what happens: a display, a log."""

    def trial_asked(self, study: TuningStudy, worker: int, config: AnyConfig) -> None:
        """The device of the worker of this number turned to a config."""

    def trial_told(self, study: TuningStudy, result: TrialResult) -> None:
        """A trial ended."""

    def study_ended(self, study: TuningStudy) -> None:
        """A study has its measurements, or will get no more."""

    def tick(self) -> None:
        """Time passed."""
