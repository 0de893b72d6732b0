"""Results and files of finished work, read from a storage without running anything."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from autotune.engines import ENGINES
from autotune.errors import UsageError
from autotune.routing.distributions import canonical
from autotune.settings import RunSettings, settings_from
from autotune.spec.device import Device
from autotune.spec.problem import Problem
from autotune.studies.storage.summaries import StudySummary
from autotune.studies.study_record import MeasuredStudy, StoredStudy
from autotune.tune.engine_output import Result, results_of
from autotune.tune.jobs import Job

_log = logging.getLogger(__name__)


Chosen = TypeVar("Chosen", bound=StudySummary | MeasuredStudy)


def settings_of(study: MeasuredStudy) -> RunSettings:
    """Return the settings of the study's last run. Raises UsageError for unreadable ones."""
    return settings_from(RunSettings, study.attrs.settings)


def stored_results(study: MeasuredStudy, output_dir: Path | None = None) -> list[Result]:
    """Return one result per engine, against the defaults and what ``output_dir`` holds today."""
    engines = tuple(ENGINES[name] for name in study.attrs.engines)
    folder = output_dir or settings_of(study).output_dir
    incumbents = Job(study.key.problem, engines).incumbents(study.key.device, folder)
    return results_of(study, engines, incumbents)


def unfinished_settings(studies: Iterable[MeasuredStudy]) -> list[RunSettings]:
    """Return the distinct settings of studies that lack measurements, in order of study name."""
    found: list[RunSettings] = []
    for study in studies:
        settings = settings_of(study)
        if not study.is_finished and settings not in found:
            found.append(settings)
    return found


def select(studies: Sequence[Chosen], model: str | None) -> list[Chosen]:
    """Return the studies of one model, or all. Raises UsageError where there are none."""
    chosen = [s for s in studies if model is None or s.attrs.model.lower() == model.lower()]
    if not chosen:
        known = sorted({study.attrs.model for study in studies})
        what = f"for --model {model}; it knows {', '.join(known)}" if known else "at all"
        raise UsageError(f"the storage has no studies {what}")
    return chosen


def of_one_routing(studies: Sequence[StoredStudy], routing: str | None) -> list[StoredStudy]:
    """Return the studies of ``routing``, or all. A name without its numbers or digest will do.

    Raises UsageError where it has none, and where two routings have winners for one entry of a
    file: the engines' files do not know routing.
    """
    found: dict[tuple[Problem, Device], set[str]] = {}
    chosen = []
    for study in newest(studies):
        problem = study.key.problem
        if routing is None or _is_named(problem.routings, routing.split(",")):
            chosen.append(study)
            entry = (replace(problem, routing="", ep_rank=0), study.key.device)
            found.setdefault(entry, set()).add(problem.routing)
    known = ", ".join(sorted({study.key.problem.routing for study in studies}))
    if not chosen:
        raise UsageError(f"no study has --routing {routing}; there are {known}")
    several = next((names for names in found.values() if len(names) > 1), None)
    if several is not None:
        raise UsageError(
            f"one file cannot hold the winners for {' and '.join(sorted(several))}. "
            f"Say which with --routing; there are {known}"
        )
    return chosen


def newest(studies: Sequence[StoredStudy]) -> list[StoredStudy]:
    """Return, of studies that differ in nothing but how times came about (an older version, warm
    L2, an engine's own kernel) or in the gate, which no file name tells, the one that was worked on
    last; the log names the others."""
    last: dict[tuple[Problem, Device], StoredStudy] = {}
    for study in studies:
        problem = replace(study.key.problem, gated=True)
        entry = problem, replace(study.key.device, method="")
        if entry not in last or _worked_on(last[entry]) < _worked_on(study):
            last[entry] = study
    kept = {study.name for study in last.values()}
    left = sorted({s.key.device.method for s in studies if s.name not in kept})
    if left:
        _log.warning(
            "left out: studies measured otherwise (%s), where there are newer ones of the same "
            "batch size",
            "; ".join(left),
        )
    return [study for study in studies if study.name in kept]


def _worked_on(study: StoredStudy) -> float:
    """Return the start of its last trial in seconds since 1970; 0 without one."""
    return max((t.datetime_start.timestamp() for t in study.trials if t.datetime_start), default=0)


def _is_named(routings: Sequence[str], names: Sequence[str]) -> bool:
    return len(routings) == len(names) and all(
        canonical(routing) == canonical(name) or routing.startswith(f"{name}:")
        for routing, name in zip(routings, names, strict=True)
    )
