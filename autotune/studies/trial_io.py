"""Trials asked, told, queued and given up."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from autotune.spec.config import AnyConfig, config_from_keys
from autotune.studies.outcome import TrialResult
from autotune.studies.space import SearchSpace
from autotune.studies.storage.protocol import Asked, TrialEnd
from autotune.studies.storage.transactions import storage_of, transactions_of, trial_id_of
from autotune.studies.trial_record import SOURCE, distributions, ending, taken_configs


def is_exhausted(study: Study, space: SearchSpace) -> bool:
    """True where every config is measured, failed, queued or in work, and nothing is queued."""
    trials = study.get_trials(deepcopy=False)
    queued = any(trial.state == TrialState.WAITING for trial in trials)
    return not queued and space.is_exhausted(taken_configs(trials))


def ask(study: Study, space: SearchSpace) -> Asked:
    """The sampler's next config, or the next warm start that is waiting. For who is alone with
    the study; workers take theirs by ``claim.claim``."""
    trial = study.ask(dict(distributions(space)))
    return Asked(trial_id_of(trial), trial.number, config_from_keys(trial.params))


def tell(study: Study, asked: Asked, result: TrialResult, default_us: float | None) -> FrozenTrial:
    """Record a result; ``default_us`` is what the speed-up is over."""
    transactions_of(study).finish([ending(asked, result, default_us)])
    return storage_of(study).get_trial(asked.trial_id)


def abandon(study: Study, *asked: Asked) -> None:
    """Give up trials that were interrupted: their configs may be asked again."""
    ends = [TrialEnd(each.trial_id, TrialState.FAIL) for each in asked]
    transactions_of(study).finish(ends)


def enqueue(
    study: Study,
    space: SearchSpace,
    starts: Iterable[tuple[AnyConfig, str]],
    *,
    goal: float = math.inf,
) -> list[AnyConfig]:
    """Queue warm starts, each with its source in words; what is known or infeasible is left out,
    and what would make the study's measurements, with those in work or queued, more than ``goal``.

    Queued trials survive a kill and are asked before the sampler is. Returns what was queued.
    """
    tried = taken_configs(study.get_trials(deepcopy=False))  # before the database is locked
    wanted: dict[AnyConfig, str] = {}
    for config, source in starts:
        if config in space and config not in tried:
            wanted.setdefault(config, source)
    queued: list[AnyConfig] = []

    def choose() -> list[tuple[Mapping[str, Any], Mapping[str, Any]]]:
        trials = study.get_trials(deepcopy=False)
        known = taken_configs(trials)
        room = goal - sum(trial.state != TrialState.FAIL for trial in trials)
        new = [config for config in wanted if config not in known]
        queued[:] = [config for number, config in enumerate(new) if number < room]
        return [(config.as_keys(), {SOURCE: wanted[config]}) for config in queued]

    if wanted:
        transactions_of(study).queue(study, choose)
    return queued
