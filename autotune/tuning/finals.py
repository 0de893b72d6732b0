"""A study's finals: its finalists, measured again, interleaved, on one device."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Collection, Iterable, Sequence

from autotune.spec.config import AnyConfig
from autotune.spec.device import DeviceKind
from autotune.spec.problem import Problem
from autotune.studies.outcome import Outcome, TrialResult
from autotune.studies.selection.finalists import Finalist, pick, settled
from autotune.studies.selection.select import Robust
from autotune.studies.storage.retry import retry_storage
from autotune.studies.study_attributes import attributes_of, write_finalists
from autotune.tuning.jobs import may_write
from autotune.tuning.processes.child import Child
from autotune.tuning.processes.dispatch import measure_interleaved_in
from autotune.tuning.tuning_study import TuningStudy

_log = logging.getLogger(__name__)

MIN_ROUNDS, MAX_ROUNDS = 2, 6
"""Rounds of all finalists, or of all files at a batch size. Six of seven configs at 10 to 60 ms
take 0.5 to 3 s a batch size."""


class Rounds:
    """Rounds in which configs are measured interleaved, each in a new order, until more of them
    would change nothing."""

    def __init__(
        self,
        configs: Iterable[AnyConfig],
        *,
        seed: str,
        rounds: int = MAX_ROUNDS,
        routings: int = 1,
        robust: Robust = Robust.MEAN,
        rivals: Sequence[Collection[AnyConfig]] = (),
        kept: Collection[AnyConfig] = (),
    ) -> None:
        """``seed`` decides the orders; ``rounds`` are measured at most. The fastest of each of the
        ``rivals`` is wanted: what is settled in all of these sets is measured no more, unless it
        is ``kept``. Without any, everything is measured to the end."""
        self._samples: dict[AnyConfig, list[float]] = {config: [] for config in configs}
        self._rivals = rivals or [list(self._samples)]
        self._kept = set(kept if rivals else self._samples)
        self._order, self._left = random.Random(seed), rounds
        self._routings, self._robust = routings, robust
        self._taken = 0
        self.failed: dict[AnyConfig, TrialResult] = {}
        """Configs that failed in some round, and how."""

    @property
    def finalists(self) -> list[Finalist]:
        """Those that were measured in each round so far, and still may win."""
        if not self._taken:
            return []
        return [Finalist(c, tuple(us), self._routings) for c, us in self._samples.items()]

    @property
    def are_over(self) -> bool:
        """True where another round is of no use."""
        if not self._samples or not self._left:
            return True
        return self._taken >= MIN_ROUNDS and all(len(each) <= 1 for each in self._in_contest())

    def order(self) -> list[AnyConfig]:
        """Return the configs in the order of the next round."""
        return self._order.sample(list(self._samples), len(self._samples))

    def take(self, configs: Sequence[AnyConfig], results: Sequence[TrialResult]) -> None:
        """Take in a round's results of ``configs``."""
        self.failed |= _add_round(self._samples, configs, results)
        self._taken += 1
        self._left -= 1
        wanted = self._kept.union(*self._in_contest())
        self._samples = {config: us for config, us in self._samples.items() if config in wanted}

    def _in_contest(self) -> list[set[AnyConfig]]:
        """Return those of each set of rivals that more samples may bring before the others. The
        worst loss of each is told by all."""
        found = []
        for rivals in self._rivals:
            finalists = [one for one in self.finalists if one.config in rivals]
            out = settled(finalists) if self._robust is Robust.MEAN else []
            found.append({one.config for one in finalists} - set(out))
        return found


def finals_of(study: TuningStudy) -> Rounds | None:
    """Return the rounds that a study's finals take; None where they were measured before, nothing
    was measured at all, or times are not measured. Sets ``study.finalists`` to those of before."""
    if study.key.device.kind != DeviceKind.CUDA:
        return None
    kinds = len(study.key.problem.routings)
    attributes = attributes_of(study.optuna_study)
    study.finalists = tuple(attributes.finalists(len(study.measured), study.robust))
    rivals = _picked(study, kinds)
    if study.finalists or not any(rivals):
        return None
    return Rounds(
        dict.fromkeys(config for configs in rivals for config in configs),
        seed=study.key.digest,
        routings=kinds,
        robust=study.robust,
        rivals=rivals,
        kept=[incumbent.config for incumbent in study.plan.incumbents],
    )


def keep_finals(study: TuningStudy, rounds: Rounds, count: int) -> None:
    """Set ``study.finalists`` and the study's attribute, for a study with ``count`` measurements.
    A config that failed is no finalist."""
    for config, result in rounds.failed.items():
        _log.warning("finalist %s: %s %s", config, result.outcome.value, result.reason)
    study.finalists = tuple(rounds.finalists)
    finalists = rounds.finalists
    retry_storage(lambda: write_finalists(study.optuna_study, finalists, count, study.robust))


def measure_finalists(
    study: TuningStudy, child: Child, is_over: Callable[[], bool], run_timeout_s: float
) -> None:
    """Set ``study.finalists`` and the study's attribute; nothing where times are not measured here.
    Once ``is_over``, it leaves the study as it was."""
    rounds = finals_of(study)
    if rounds is None or is_over():
        return
    _measure(rounds, child, study.problem, run_timeout_s, is_over)
    if not is_over():
        keep_finals(study, rounds, len(study.measured))


def measure_rounds(
    child: Child,
    problem: Problem,
    configs: Iterable[AnyConfig],
    *,
    timeout_s: float,
    seed: str,
    rounds: int = MAX_ROUNDS,
) -> tuple[list[Finalist], dict[AnyConfig, TrialResult]]:
    """Measure configs as ``Rounds`` has it. Return those that were measured in each round, and how
    the others failed."""
    measured = Rounds(configs, seed=seed, rounds=rounds)
    _measure(measured, child, problem, timeout_s, lambda: False)
    return measured.finalists, measured.failed


def _measure(
    rounds: Rounds,
    child: Child,
    problem: Problem,
    timeout_s: float,
    is_over: Callable[[], bool],
) -> None:
    while not rounds.are_over:
        order = rounds.order()
        results = measure_interleaved_in(child, timeout_s, problem, order, is_over=is_over)
        if is_over():
            return
        rounds.take(order, results)


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


def _picked(study: TuningStudy, routings: int) -> list[list[AnyConfig]]:
    """Return each engine's finalists: what one of them cannot launch must not take the places of
    what it can."""
    problem, device = study.key.problem, study.key.device
    groups = [
        [entry for entry in study.measured if may_write(engine, problem, device, entry.config)]
        for engine in study.engines
    ]
    incumbents = {incumbent.config for incumbent in study.plan.incumbents}
    picked = [pick(g, incumbents, study.robust, routings) for g in groups or [study.measured]]
    own = study.plan.own_config
    if own is not None and any(picked):  # to be beaten, whether or not the space has it
        picked = [list(dict.fromkeys([*configs, own])) for configs in picked]
    return picked
