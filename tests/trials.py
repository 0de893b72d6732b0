"""A study's trials one after the other, for who is alone with it."""

from __future__ import annotations

from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from autotune.spec.config import config_from_keys
from autotune.studies.outcome import TrialResult
from autotune.studies.space import SearchSpace
from autotune.studies.storage.protocol import Asked
from autotune.studies.storage.transactions import storage_of, transactions_of, trial_id_of
from autotune.studies.trial_record import distributions, ending, taken_configs


def is_exhausted(study: Study, space: SearchSpace) -> bool:
    """True where every config is measured, failed, queued or in work, and nothing is queued."""
    trials = study.get_trials(deepcopy=False)
    queued = any(trial.state == TrialState.WAITING for trial in trials)
    return not queued and space.is_exhausted(taken_configs(trials))


def ask(study: Study, space: SearchSpace) -> Asked:
    """The sampler's next config, or the next warm start that is waiting."""
    trial = study.ask(dict(distributions(space)))
    return Asked(trial_id_of(trial), trial.number, config_from_keys(trial.params))


def tell(study: Study, asked: Asked, result: TrialResult, default_us: float | None) -> FrozenTrial:
    """Record a result; ``default_us`` is what the speed-up is over."""
    transactions_of(study).finish([ending(asked, result, default_us)])
    return storage_of(study).get_trial(asked.trial_id)
