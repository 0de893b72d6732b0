"""A study's finals: its finalists, measured again, interleaved, on one device."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterable, Sequence

from autotune.spec.config import AnyConfig
from autotune.spec.device import DeviceKind
from autotune.spec.problem import Problem
from autotune.studies.outcome import Outcome, TrialResult
from autotune.studies.selection.finalists import Finalist, is_settled, pick
from autotune.studies.selection.select import Robust
from autotune.studies.storage.retry import retry_storage
from autotune.studies.study_record import attributes_of, write_finalists
from autotune.tune.jobs import may_write
from autotune.tune.processes.child import Child
from autotune.tune.processes.dispatch import measure_interleaved_in
from autotune.tune.tuning_study import TuningStudy

_log = logging.getLogger(__name__)

MIN_ROUNDS, MAX_ROUNDS = 2, 6
"""Rounds of all finalists, or of all files at a batch size. Six of seven configs at 10 to 60 ms
take 0.5 to 3 s a batch size."""


def measure_finalists(
    study: TuningStudy, child: Child, is_over: Callable[[], bool], run_timeout_s: float
) -> None:
    """Set ``study.finalists`` and the study's attribute; nothing where times are not measured here.

    A config that fails now is no finalist. Once ``is_over``, it leaves the study as it was.
    """
    if study.key.device.kind != DeviceKind.CUDA:
        return
    kinds = len(study.key.problem.routings)
    attributes = attributes_of(study.optuna_study)
    study.finalists = tuple(attributes.finalists(len(study.measured), study.robust))
    configs = _picked(study, kinds)
    if study.finalists or not configs or is_over():
        return
    finalists, failed = measure_rounds(
        child,
        study.problem,
        configs,
        timeout_s=run_timeout_s,
        seed=study.key.digest,
        routings=kinds,
        robust=study.robust,
        is_over=is_over,
    )
    for config, result in failed.items():
        _log.warning("finalist %s: %s %s", config, result.outcome.value, result.reason)
    if not is_over():
        study.finalists = tuple(finalists)
        count = len(study.measured)
        retry_storage(lambda: write_finalists(study.optuna_study, finalists, count, study.robust))


def measure_rounds(
    child: Child,
    problem: Problem,
    configs: Iterable[AnyConfig],
    *,
    timeout_s: float,
    seed: str,
    rounds: int = MAX_ROUNDS,
    routings: int = 1,
    robust: Robust = Robust.MEAN,
    is_over: Callable[[], bool] = lambda: False,
) -> tuple[list[Finalist], dict[AnyConfig, TrialResult]]:
    """Measure configs interleaved, in a new order each round, until more rounds would change
    nothing, or ``is_over``. Return those that were measured in each, and how the others failed."""
    samples: dict[AnyConfig, list[float]] = {config: [] for config in configs}
    failed: dict[AnyConfig, TrialResult] = {}
    finalists: list[Finalist] = []
    order = random.Random(seed)
    for number in range(rounds):
        shuffled = order.sample(list(samples), len(samples))
        results = measure_interleaved_in(child, timeout_s, problem, shuffled, is_over=is_over)
        if is_over():
            break
        failed |= _add_round(samples, shuffled, results)
        finalists = [Finalist(config, tuple(us), routings) for config, us in samples.items()]
        if number + 1 >= MIN_ROUNDS and _are_settled(finalists, robust):
            break
    return finalists, failed


def _add_round(
    samples: dict[AnyConfig, list[float]],
    configs: Sequence[AnyConfig],
    results: Sequence[TrialResult],
) -> dict[AnyConfig, TrialResult]:
    """Append what was measured interleaved to the ``samples`` of each config, as many as all have:
    memory may have run out on the way. What failed is taken out, and returned."""
    new: dict[AnyConfig, tuple[float, ...]] = {}
    failed: dict[AnyConfig, TrialResult] = {}
    for config, result in zip(configs, results, strict=True):
        if result.outcome is Outcome.OK and result.measurement:
            new[config] = result.measurement.samples_us
        else:
            failed[config] = result
            del samples[config]
    fewest = min(map(len, new.values()), default=0)
    for config, us in new.items():
        samples[config] += us[:fewest]
    return failed


def _picked(study: TuningStudy, routings: int) -> list[AnyConfig]:
    """Each engine's finalists: what one of them cannot launch must not take the places of what it
    can."""
    problem, device = study.key.problem, study.key.device
    groups = [
        [entry for entry in study.measured if may_write(engine, problem, device, entry.config)]
        for engine in study.engines
    ]
    incumbents = {incumbent.config for incumbent in study.plan.incumbents}
    picked = [pick(g, incumbents, study.robust, routings) for g in groups or [study.measured]]
    own = study.plan.own_config
    if own is not None and any(picked):  # to be beaten, whether or not the space has it
        picked.append([own])
    return list(dict.fromkeys(config for configs in picked for config in configs))


def _are_settled(finalists: Sequence[Finalist], robust: Robust) -> bool:
    """True where more rounds would change nothing. Of worst losses nobody says so."""
    return len(finalists) <= 1 or (robust is Robust.MEAN and is_settled(finalists))
