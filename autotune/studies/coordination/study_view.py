"""A view of a study is read again and again at little cost: ended trials are looked at once."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable

from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from autotune.spec.config import AnyConfig
from autotune.studies.storage.protocol import Asked
from autotune.studies.trial_record import (
    MEASURED,
    REASON,
    SOURCE,
    TrialRecord,
    is_interrupted,
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
        self._best_halves = 0
        self._open_best_halves = 0
        self._trials: list[FrozenTrial] = []
        self._is_open: list[FrozenTrial] = []
        self.measured: list[TrialRecord] = []
        """Measurements by trial number; those noted since the last reading come last."""

    def read(self) -> list[FrozenTrial]:
        """Return all trials, by number. They must not be changed."""
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
        self._best_halves += sum(_is_best_halves(t) and t.state in MEASURED for t in ended)
        self._open_best_halves = sum(map(_is_best_halves, self._is_open))
        for entry in measured(ended):
            self.note(entry)
        self.measured = sorted(self.measured, key=lambda entry: entry.trial_number)  # not in place:
        # another thread may read them
        return self._trials

    def note(self, entry: TrialRecord) -> None:
        """Take in what was just measured here, whether it is written already or not."""
        if entry.trial_number not in self._noted:
            self._noted.add(entry.trial_number)
            self.measured.append(entry)

    def hold(self, asked: Iterable[Asked]) -> None:
        """Count as taken what was just asked here; the next reading has it."""
        self._in_work |= {each.config: each.number for each in asked}

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
        """Configs that must not be asked again: see ``trial_record.taken_configs``."""
        return self._ended.keys() | self._in_work.keys()

    def holder(self, config: AnyConfig) -> float:
        """Return the lowest number of a trial that takes a config; infinite for none."""
        numbers = (self._ended.get(config, math.inf), self._in_work.get(config, math.inf))
        return min(numbers)

    @property
    def best_halves(self) -> int:
        """Pairs of best halves that were measured, are in work or queued."""
        return self._best_halves + self._open_best_halves

    @property
    def failures(self) -> list[str]:
        """Reasons of the trials that failed since the last that was measured, the last first."""
        reasons = []
        for trial in reversed(self._trials):
            if trial.state in MEASURED or trial.number in self._noted:
                break
            if trial.state == TrialState.FAIL and not is_interrupted(trial):
                reasons.append(str(trial.user_attrs.get(REASON, "")))
        return reasons


def _holders(trials: Iterable[FrozenTrial]) -> dict[AnyConfig, int]:
    """Return config → the lowest number of those trials that take it."""
    held: dict[AnyConfig, int] = {}
    for trial in trials:
        for config in taken_configs([trial]):
            held.setdefault(config, trial.number)
    return held


def _is_best_halves(trial: FrozenTrial) -> bool:
    return trial.user_attrs.get(SOURCE) == BEST_HALVES
