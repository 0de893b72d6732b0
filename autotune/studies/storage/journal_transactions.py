"""A trial's moments by plain calls of Optuna's storages, for the journal: it has no transactions.

Lamport's bakery stands in for them, with the trial's number as the ticket: a worker first creates
its trial, running and with its parameters, then reads the study, and gives up what another with a
lower number has. Of any two, one was created first, and the other one's reading comes after both.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import BaseStorage
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from autotune.intervals import POLL_S
from autotune.studies.storage.transactions import (
    FIXED,
    WORKER,
    Asked,
    Distributions,
    Params,
    Stand,
    Tally,
    TrialEnd,
    all_stand,
    asked_of,
    queued_trial,
    running_trials,
    standing_ones,
)
from autotune.studies.trial_record import config_of

_HALF_MADE_S = 5.0
"""How long to wait for the parameters of a trial that somebody took from the queue before us."""


@dataclass(frozen=True, slots=True)
class JournalTransactions:
    """``TrialTransactions`` of any storage of Optuna's, by its public methods alone."""

    storage: BaseStorage
    signs_at_once: bool = False

    def begin(
        self,
        study: Study,
        distributions: Distributions,
        params: Sequence[Params],
        worker: str,
        stand: Stand = all_stand,
    ) -> list[Asked]:
        """See ``TrialTransactions``."""
        templates = running_trials(distributions, params, worker)
        ids = [self.storage.create_new_trial(study._study_id, trial) for trial in templates]
        number_of = self.storage.get_trial_number_from_id
        asked = [asked_of(p, i, number_of(i)) for p, i in zip(params, ids, strict=True)]
        return self._standing(study, asked, stand)

    def take(
        self,
        study: Study,
        queued: Sequence[FrozenTrial],
        distributions: Distributions,
        worker: str,
        stand: Stand = all_stand,
    ) -> list[Asked]:
        """See ``TrialTransactions``."""
        asked = [
            asked_of(trial.system_attrs[FIXED], trial._trial_id, trial.number)
            for trial in queued
            if self._take(trial, distributions, worker)
        ]
        return self._standing(study, asked, stand)

    def queue(self, study: Study, choose: Callable[[], Sequence[tuple[Params, Params]]]) -> None:
        """See ``TrialTransactions``."""
        for params, attrs in choose():
            self.storage.create_new_trial(study._study_id, queued_trial(params, attrs))

    def finish(self, ends: Collection[TrialEnd]) -> set[int]:
        """See ``TrialTransactions``."""
        return {end.trial_id for end in ends if self._finish(end)}

    def give_back(
        self, study: Study, trial: FrozenTrial, user_attrs: Mapping[str, Any] | None
    ) -> bool:
        """See ``TrialTransactions``."""
        is_ours = self._finish(TrialEnd(trial._trial_id, TrialState.FAIL))
        if is_ours and user_attrs is not None:
            self.queue(study, lambda: [(trial.params, user_attrs)])
        return is_ours

    def tallies(self, studies: Collection[Study]) -> list[Tally]:
        """See ``TrialTransactions``."""
        return [_tally(study.get_trials(deepcopy=False)) for study in studies]

    def _take(self, trial: FrozenTrial, distributions: Distributions, worker: str) -> bool:
        trial_id, params = trial._trial_id, trial.system_attrs[FIXED]
        try:
            if not self.storage.set_trial_state_values(trial_id, TrialState.RUNNING):
                return False
        except UpdateFinishedTrialError:
            return False
        self.storage.set_trial_user_attr(trial_id, WORKER, worker)
        for name, distribution in distributions.items():
            value = distribution.to_internal_repr(params[name])
            self.storage.set_trial_param(trial_id, name, value, distribution)
        return True

    def _standing(self, study: Study, asked: Sequence[Asked], stand: Stand) -> list[Asked]:
        if asked and stand is not all_stand:
            _wait_for_half_made(study, max(each.number for each in asked))
        return standing_ones(self, asked, stand)

    def _finish(self, end: TrialEnd) -> bool:
        try:
            for key, value in end.user_attrs.items():
                self.storage.set_trial_user_attr(end.trial_id, key, value)
            if end.value is not None and end.state == TrialState.PRUNED:
                self.storage.set_trial_intermediate_value(end.trial_id, 0, end.value)
            values = None if end.value is None else [end.value]
            self.storage.set_trial_state_values(end.trial_id, end.state, values)
        except UpdateFinishedTrialError:
            return False
        return True


def _wait_for_half_made(study: Study, last: int) -> None:
    """Wait until each running trial before ``last`` shows its parameters, or a while has passed."""
    until = time.monotonic() + _HALF_MADE_S
    while time.monotonic() < until:
        running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        if not any(trial.number < last and config_of(trial) is None for trial in running):
            return
        time.sleep(POLL_S)


def _tally(trials: Sequence[FrozenTrial]) -> Tally:
    counts = Counter(trial.state for trial in trials)
    running = [trial for trial in trials if trial.state == TrialState.RUNNING]
    return Tally(
        measured=counts[TrialState.COMPLETE] + counts[TrialState.PRUNED],
        waiting=counts[TrialState.WAITING],
        running=len(running),
        workers=frozenset(str(trial.user_attrs.get(WORKER, "")) for trial in running),
    )
