"""Crossings: the winner under one routing, measured under another, and the other way round.

After a study's finals, its winner and those of the studies that differ in routing alone are
measured under each of these routings, side by side.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from itertools import permutations

from autotune.routing.trace import RECORDED
from autotune.spec.config import AnyConfig
from autotune.spec.problem import Problem
from autotune.studies.key import StudyKey
from autotune.studies.outcome import Outcome
from autotune.studies.search.history import Known, comparable
from autotune.studies.selection.select import Timed, ranked
from autotune.studies.storage.retry import retry_storage
from autotune.studies.study_attributes import StudyAttributes, attributes_of, write_crossings
from autotune.tuning.processes.child import Child
from autotune.tuning.processes.dispatch import measure_interleaved_in
from autotune.tuning.tuning_study import TuningStudy

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Crossing:
    """The winner under one routing, measured under another."""

    tuned: str
    measured: str
    us: float
    winner_us: float
    """Time of the winner under ``measured``, taken beside it."""
    configs: tuple[str, str]
    """Both, in words: crossings of other configs are out of date."""

    @property
    def loss(self) -> float:
        """Share by which it is slower."""
        return self.us / self.winner_us - 1


def crossings_of(attrs: StudyAttributes) -> list[Crossing]:
    """Return what an earlier run measured."""
    return [Crossing(**{**row, "configs": tuple(row["configs"])}) for row in attrs.crossings]


def cross(
    study: TuningStudy, child: Child, is_over: Callable[[], bool], run_timeout_s: float
) -> None:
    """Measure what is not measured yet, and set the study's attribute.

    Recordings that are not at hand are left out; so is what fails, or comes once ``is_over``.
    """
    own = _side(study)
    others = [_side(study) for study in differing_in_routing(study.key, study.history)]
    if own is None or not others:
        return
    for other in others:
        if other is not None and not _is_measurable(other.problem, study.key.problem):
            _say_what_fills(other.problem)
    stored = crossings_of(attributes_of(study.optuna_study))
    crossings = [
        crossing
        for other in others
        if other is not None and not is_over()
        for there, here in permutations((own, other))
        if _is_measurable(here.problem, study.key.problem)
        if (crossing := _crossing(there, here, stored, child, run_timeout_s)) is not None
    ]
    if is_over():  # what was left out is as it was
        crossings += [crossing for crossing in stored if crossing not in crossings]
    if crossings != stored:
        rows = [asdict(crossing) for crossing in crossings]
        retry_storage(lambda: write_crossings(study.optuna_study, rows))


def differing_in_routing(key: StudyKey, known: Iterable[Known]) -> list[Known]:
    """The studies of the same problem, but for its routing and the rank that it loads most."""
    return [
        study
        for study in known
        if study.key.problem.routing != key.problem.routing
        and _but_routing(study.key.problem) == _but_routing(key.problem)
        and comparable(study.key.device, key.device)
    ]


def _but_routing(problem: Problem) -> Problem:
    return replace(problem, routing="", ep_rank=0)


@dataclass(frozen=True, slots=True)
class _Side:
    """A study's problem, and the fastest config that it found."""

    problem: Problem
    config: AnyConfig


def _side(study: Known) -> _Side | None:
    """Choose among the finalists where there are any, else among the trials; None where nothing
    is complete."""
    complete = [entry for entry in study.measured if entry.complete]
    timed: Sequence[Timed] = study.finalists or complete
    wanted = ranked(timed, len(study.key.problem.routings), study.robust)
    return _Side(study.key.problem, wanted[0].config) if wanted else None


def _is_measurable(problem: Problem, own: Problem) -> bool:
    """False for a mean over several routings, which is none of its own, and for a recording that
    the child was not given: it knows the one of the problem that it was started for."""
    return problem.routing in own.routings or (
        len(problem.routings) == 1 and not problem.routing.startswith(RECORDED)
    )


def _say_what_fills(problem: Problem) -> None:
    if len(problem.routings) == 1:
        _say_once(
            f"not timed under {problem.routing}, whose recording is not at hand: run again as "
            "that was tuned, with its --topk-ids-dir, to fill the table across routings"
        )


@cache
def _say_once(text: str) -> None:
    """One line a process: a run has finals of each batch size."""
    _log.info(text)


def _crossing(
    there: _Side, here: _Side, stored: Iterable[Crossing], child: Child, run_timeout_s: float
) -> Crossing | None:
    """``there``'s winner measured beside ``here``'s, unless that was done before."""
    names = there.problem.routing, here.problem.routing
    configs = str(there.config), str(here.config)
    known = (c for c in stored if (c.tuned, c.measured, c.configs) == (*names, configs))
    if (before := next(known, None)) is not None:
        return before
    us = []
    sides = there.config, here.config
    results = measure_interleaved_in(child, run_timeout_s, here.problem, sides)
    for config, result in zip(sides, results, strict=True):
        if result.outcome is not Outcome.OK or result.measurement is None:
            _log.warning("%s under %s: %s", config, here.problem.routing, result.reason)
            return None
        us.append(result.measurement.geomean_us)
    return Crossing(*names, us=us[0], winner_us=us[1], configs=configs)
