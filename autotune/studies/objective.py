"""From an asked trial to a told one: the only place where an outcome meets Optuna."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from optuna.distributions import CategoricalDistribution
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState

from autotune.kernels.config import AnyConfig, config_from_keys
from autotune.studies.outcome import Outcome, TrialResult
from autotune.studies.record import taken_configs
from autotune.studies.space import SearchSpace

_STATE = {Outcome.OK: TrialState.COMPLETE, Outcome.PRUNED: TrialState.PRUNED}


@dataclass(frozen=True, slots=True)
class Asked:
    """A trial in work: the live Optuna handle and the config that it stands for."""

    trial: Trial
    config: AnyConfig


def distributions(space: SearchSpace) -> dict[str, CategoricalDistribution]:
    """Engine key → Optuna distribution. Constant for a study: its key holds the fingerprint."""
    return {key: CategoricalDistribution(values) for key, values in space.knobs.items()}


def is_exhausted(study: Study, space: SearchSpace) -> bool:
    """True where every config is measured, failed, queued or in work, and nothing is queued."""
    trials = study.get_trials(deepcopy=False)
    queued = any(trial.state == TrialState.WAITING for trial in trials)
    return not queued and space.is_exhausted(taken_configs(trials))


def ask(study: Study, space: SearchSpace) -> Asked:
    """The sampler's next config, or the next warm start that is waiting."""
    trial = study.ask(dict(distributions(space)))
    return Asked(trial, config_from_keys(trial.params))


def tell(study: Study, asked: Asked, result: TrialResult, default_us: float | None) -> FrozenTrial:
    """Record a result. OK completes with the median in µs, PRUNED keeps what was measured, and
    everything else fails with its reason; ``default_us`` is what the speed-up is over."""
    trial = asked.trial
    for name, value in _attributes(result, default_us).items():
        trial.set_user_attr(name, value)
    state = _STATE.get(result.outcome, TrialState.FAIL)
    if result.measurement is None:
        return study.tell(trial, state=TrialState.FAIL)
    if state == TrialState.PRUNED:
        trial.report(result.measurement.median_us, step=0)
        return study.tell(trial, state=state)
    return study.tell(trial, result.measurement.median_us)


def abandon(study: Study, asked: Asked) -> None:
    """Give up a trial that was interrupted: its config may be asked again."""
    study.tell(asked.trial, state=TrialState.FAIL, skip_if_finished=True)


def fail_stale(study: Study, space: SearchSpace) -> list[AnyConfig]:
    """Fail the trials that a dead run left in RUNNING. Returns their configs, to be asked again.

    Only for the holder of the storage's run lock: nobody else's trial may be in work.
    """
    stale = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    for trial in stale:
        study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)
    whole = (trial for trial in stale if trial.params.keys() == space.knobs.keys())
    return [config_from_keys(trial.params) for trial in whole]


def enqueue(
    study: Study, space: SearchSpace, starts: Iterable[tuple[AnyConfig, str]]
) -> list[AnyConfig]:
    """Queue warm starts, each with its source in words; what is known or infeasible is left out.

    Queued trials survive a kill and are asked before the sampler is. Returns what was queued.
    """
    known = taken_configs(study.get_trials(deepcopy=False))
    queued = []
    for config, source in starts:
        if config in space and config not in known:
            known.add(config)
            study.enqueue_trial(config.as_keys(), user_attrs={"source": source})
            queued.append(config)
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
            attributes["speedup"] = round(default_us / result.measurement.median_us, 4)
    if result.resources is not None:
        attributes["registers"] = result.resources.registers
        attributes["spill_bytes"] = result.resources.spill_bytes
        attributes["shared_bytes"] = result.resources.shared_bytes
    if result.failed_half:
        attributes["failed_half"] = result.failed_half
    if result.compile_s:
        attributes["compile_s"] = round(result.compile_s, 3)
    if result.measure_s:
        attributes["measure_s"] = round(result.measure_s, 3)
    if result.reason:
        attributes["reason"] = result.reason
    return attributes
