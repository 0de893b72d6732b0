"""The moments of a trial's life that a storage must keep whole: queued, begun, ended, given back.

Two classes write them: ``RdbTransactions`` in Optuna's tables, one transaction each, and
``JournalTransactions`` by plain calls of Optuna's storages. ``transactions_of`` chooses.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from optuna.distributions import BaseDistribution
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState, create_trial

from autotune.spec.config import AnyConfig, config_from_keys

WORKER = "worker"
"""User attribute of a trial: the worker that has it in work. See ``coordination.leases``."""
FIXED = "fixed_params"
"""Optuna's system attribute of a queued trial: the parameters that it will be asked for."""

Params = Mapping[str, Any]
Distributions = Mapping[str, BaseDistribution]


@dataclass(frozen=True, slots=True)
class Asked:
    """A trial in work: its id in the storage, its number in the study, and its config."""

    trial_id: int
    number: int
    config: AnyConfig


@dataclass(frozen=True, slots=True)
class TrialEnd:
    """The state, value and new user attributes that a trial ends with."""

    trial_id: int
    state: TrialState
    value: float | None = None
    user_attrs: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Tally:
    """The number of a study's trials in each state."""

    measured: int
    waiting: int
    running: int
    workers: frozenset[str]
    """Workers that have the running ones; "" for a trial that names none."""


Ticket = tuple[AnyConfig, float]
"""A config and the number of its trial; infinite for a trial that is not created yet."""
Stand = Callable[[Sequence[Ticket]], Sequence[bool]]
"""Reads the study and decides which trials may stand. A trial counts those with lower numbers."""


class TrialTransactions(ABC):
    """A writer of trials into a storage that workers share."""

    signs_at_once: ClassVar[bool]
    """True if every running trial of ours names its worker from the first moment."""

    @abstractmethod
    def begin(
        self,
        study: Study,
        distributions: Distributions,
        params: Sequence[Params],
        worker: str,
        stand: Stand,
    ) -> list[Asked]:
        """Create running trials, and return those that ``stand``. Readers see none without its
        parameters.

        The distributions are not held against those of earlier trials, as Optuna does for each
        parameter: they are constant for a study.
        """

    def take(
        self,
        study: Study,
        queued: Sequence[FrozenTrial],
        distributions: Distributions,
        worker: str,
        stand: Stand,
    ) -> list[Asked]:
        """Begin queued trials, and return those that nobody else took and that ``stand``."""
        asked = [
            asked_of(trial.system_attrs[FIXED], trial._trial_id, trial.number)
            for trial in queued
            if FIXED in trial.system_attrs and self._start(trial, distributions, worker)
        ]
        return self._standing(study, asked, stand) if asked else []

    @abstractmethod
    def queue(self, study: Study, choose: Callable[[], Sequence[tuple[Params, Params]]]) -> None:
        """Queue trials with the parameters and user attributes that ``choose`` returns."""

    @abstractmethod
    def finish(self, ends: Collection[TrialEnd]) -> set[int]:
        """End running trials of any study in the storage. Return the ids of those that ended now:
        others had been ended by somebody else, and stay as they are."""

    @abstractmethod
    def give_back(
        self, study: Study, trial: FrozenTrial, user_attrs: Mapping[str, Any] | None
    ) -> bool:
        """Fail a running trial without an outcome and, unless ``user_attrs`` is None, queue its
        parameters anew with these. False if somebody else has ended it: only one queues it."""

    @abstractmethod
    def tallies(self, studies: Collection[Study]) -> list[Tally]:
        """Count the trials of each study."""

    @abstractmethod
    def _start(self, trial: FrozenTrial, distributions: Distributions, worker: str) -> bool:
        """Turn a queued trial into a running one; False if somebody else has."""

    def _standing(self, study: Study, asked: Sequence[Asked], stand: Stand) -> list[Asked]:
        """Give up the trials that do not stand, and return the others."""
        stays = stand([(each.config, each.number) for each in asked])
        given_up = [each for each, it_stays in zip(asked, stays, strict=True) if not it_stays]
        self.finish([TrialEnd(each.trial_id, TrialState.FAIL) for each in given_up])
        return [each for each in asked if each not in given_up]


def running_trials(
    distributions: Distributions, params: Sequence[Params], worker: str
) -> list[FrozenTrial]:
    """Return templates of running trials, signed by their worker."""
    return [
        create_trial(
            state=TrialState.RUNNING,
            params=dict(each),
            distributions=dict(distributions),
            user_attrs={WORKER: worker},
        )
        for each in params
    ]


def queued_trial(params: Params, user_attrs: Mapping[str, Any]) -> FrozenTrial:
    """Return the template of a queued trial."""
    return create_trial(
        state=TrialState.WAITING,
        system_attrs={FIXED: dict(params)},
        user_attrs=dict(user_attrs),
    )


def asked_of(params: Params, trial_id: int, number: int) -> Asked:
    """Return the trial in work that stands for these parameters."""
    return Asked(trial_id, number, config_from_keys(params))
