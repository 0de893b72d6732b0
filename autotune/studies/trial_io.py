"""From an asked trial to a told one: the only place where an outcome meets Optuna."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from optuna.distributions import CategoricalDistribution
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState, create_trial

from autotune.spec.config import AnyConfig, config_from_keys
from autotune.studies.outcome import Outcome, TrialResult
from autotune.studies.space import SearchSpace
from autotune.studies.storage.handles import storage_of, transactions_of, trial_id_of
from autotune.studies.storage.transactions import Asked, TrialEnd
from autotune.studies.trial_record import taken_configs

_STATE = {Outcome.OK: TrialState.COMPLETE, Outcome.PRUNED: TrialState.PRUNED}


def distributions(space: SearchSpace) -> dict[str, CategoricalDistribution]:
    """Engine key → Optuna distribution. Constant for a study: its key holds the fingerprint."""
    return {key: CategoricalDistribution(values) for key, values in space.knobs.items()}


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


def ending(
    asked: Asked, result: TrialResult, default_us: float | None, *, deaths: int = 0
) -> TrialEnd:
    """What a result means to a trial. OK completes with the mean in µs, PRUNED keeps what was
    measured, and everything else fails with its reason. ``deaths`` are the measuring processes
    that this trial cost."""
    attributes = _attributes(result, default_us)
    if deaths:
        attributes["deaths"] = deaths
    if result.measurement is None:
        return TrialEnd(asked.trial_id, TrialState.FAIL, None, attributes)
    state = _STATE.get(result.outcome, TrialState.FAIL)
    return TrialEnd(asked.trial_id, state, result.measurement.geomean_us, attributes)


def told(asked: Asked, space: SearchSpace, end: TrialEnd) -> FrozenTrial:
    """The trial as a reader of the storage will see it, before it is written."""
    trial = create_trial(
        state=end.state,
        value=end.value,
        params=dict(asked.config.as_keys()),
        distributions=dict(distributions(space)),
        user_attrs=dict(end.user_attrs),
    )
    trial.number = asked.number
    return trial


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
        return [(config.as_keys(), {"source": wanted[config]}) for config in queued]

    if wanted:
        transactions_of(study).queue(study, choose)
    return queued


def _attributes(result: TrialResult, default_us: float | None) -> dict[str, object]:
    attributes: dict[str, object] = {"outcome": result.outcome.value}
    if result.measurement is not None:
        attributes["samples_us"] = [round(us, 3) for us in result.measurement.samples_us]
        for name in ("up_us", "down_us"):
            if samples := getattr(result.measurement, name):
                attributes[name] = [round(us, 3) for us in samples]
        if result.measurement.routings > 1:
            attributes["routings"] = result.measurement.routings
        if default_us is not None:
            attributes["speedup"] = round(default_us / result.measurement.geomean_us, 4)
    if result.resources is not None:
        attributes["registers"] = result.resources.registers
        attributes["spill_bytes"] = result.resources.spill_bytes
        attributes["shared_bytes"] = result.resources.shared_bytes
    if result.blocks_per_sm is not None:
        attributes["blocks_per_sm"] = result.blocks_per_sm
    if result.failed_half:
        attributes["failed_half"] = result.failed_half
    for name in ("compile_s", "verify_s", "measure_s", "ahead_s"):
        if seconds := getattr(result, name):
            attributes[name] = round(seconds, 3)
    if result.reason:
        attributes["reason"] = result.reason
    return attributes
