"""What a study holds, read again and again at little cost: ended trials are looked at once."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable

from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from autotune.spec.config import AnyConfig
from autotune.studies.trial_record import (
    MEASURED,
    OUTCOME,
    SOURCE,
    Measured,
    measured,
    taken_configs,
)

BEST_HALVES = "best halves"
"""Source of pairs that were put together from halves of different trials."""


class StudyView:
    """A view of one study; ``read`` brings it up to date."""

    def __init__(self, study: Study) -> None:
        self._study = study
        self._seen: set[int] = set()
        self._ended: dict[AnyConfig, int] = {}
        self._in_work: dict[AnyConfig, int] = {}
        self._noted: set[int] = set()
        self._finals = 0
        self._open_finals = 0
        self._trials: list[FrozenTrial] = []
        self._is_open: list[FrozenTrial] = []
        self.entries: list[Measured] = []
        """What was measured, in the order in which it came to be known here."""

    def read(self) -> list[FrozenTrial]:
        """All trials, by number. Must not be changed."""
        self._trials = self._study.get_trials(deepcopy=False)
        self._is_open = []
        ended = []
        for trial in self._trials:
            if not trial.state.is_finished():
                self._is_open.append(trial)
            elif trial.number not in self._seen:
                self._seen.add(trial.number)
                ended.append(trial)
        self._in_work = _holders(self._is_open)
        for config, number in _holders(ended).items():
            self._ended[config] = min(number, self._ended.get(config, number))
        self._finals += sum(_is_final(t) and t.state in MEASURED for t in ended)
        self._open_finals = sum(map(_is_final, self._is_open))
        for entry in measured(ended):
            self.note(entry)
        return self._trials

    def note(self, entry: Measured) -> None:
        """Take in what was just measured here, whether it is written already or not."""
        if entry.trial_number not in self._noted:
            self._noted.add(entry.trial_number)
            self.entries.append(entry)

    def is_noted(self, number: int) -> bool:
        """True where the trial's measurement is one of the entries."""
        return number in self._noted

    @property
    def running(self) -> list[FrozenTrial]:
        """Trials in work whose measurement is not known yet."""
        return [
            trial
            for trial in self._is_open
            if trial.state == TrialState.RUNNING and trial.number not in self._noted
        ]

    @property
    def waiting(self) -> list[FrozenTrial]:
        """Queued trials, the oldest first."""
        return [trial for trial in self._is_open if trial.state == TrialState.WAITING]

    @property
    def taken(self) -> Collection[AnyConfig]:
        """See ``record.taken_configs``."""
        return self._ended.keys() | self._in_work.keys()

    def holder(self, config: AnyConfig) -> float:
        """The lowest number of a trial that keeps others from a config; infinite for none."""
        numbers = (self._ended.get(config, math.inf), self._in_work.get(config, math.inf))
        return min(numbers)

    @property
    def finals(self) -> int:
        """Pairs of best halves that were measured, are in work or queued."""
        return self._finals + self._open_finals

    @property
    def failures_in_a_row(self) -> int:
        """Trials that failed for a reason since the last that was measured."""
        count = 0
        for trial in reversed(self._trials):
            if trial.state in MEASURED or trial.number in self._noted:
                break
            count += trial.state == TrialState.FAIL and OUTCOME in trial.user_attrs
        return count


def _holders(trials: Iterable[FrozenTrial]) -> dict[AnyConfig, int]:
    """Config → the lowest number of those trials that take it."""
    held: dict[AnyConfig, int] = {}
    for trial in trials:
        for config in taken_configs([trial]):
            held.setdefault(config, trial.number)
    return held


def _is_final(trial: FrozenTrial) -> bool:
    return trial.user_attrs.get(SOURCE) == BEST_HALVES
