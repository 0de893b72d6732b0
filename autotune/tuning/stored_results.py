"""Results and files of finished work, read from a storage without running anything."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TypeVar

from autotune.backends.stand_in import measured_kernel
from autotune.engines import ENGINES, Engine
from autotune.engines.own_code.asking import own_code_of
from autotune.errors import AutotuneError, UsageError
from autotune.routing.distributions import canonical
from autotune.settings import ModelSettings, RunSettings, settings_from
from autotune.spec.device import Device
from autotune.spec.problem import KernelMode, Problem
from autotune.studies.key import StudyKey
from autotune.studies.storage.retry import DAMAGE
from autotune.studies.storage.summaries import StudySummary
from autotune.studies.study_record import MeasuredStudy, StoredStudy
from autotune.tuning.engine_output import Result, results_of
from autotune.tuning.jobs import Job, model_shape, with_users_files
from autotune.tuning.serving import named

_log = logging.getLogger(__name__)


_Entry = tuple[str, Problem, Device]
"""An engine, and what it has one entry for, whatever the device's method."""
Chosen = TypeVar("Chosen", bound=StudySummary | MeasuredStudy)


def settings_of(study: MeasuredStudy) -> RunSettings:
    """Return the settings of the study's last run. Raises UsageError for unreadable ones."""
    try:
        return settings_from(RunSettings, study.attrs.settings)
    except DAMAGE as error:
        raise UsageError(f"study {study.name!r}: its settings cannot be read: {error}") from error


def shares_of(study: MeasuredStudy) -> dict[int, float]:
    """Return batch size → its share of a server's time, as the study's last run was told; empty
    where it was told of none."""
    try:
        return settings_of(study).model.shares
    except UsageError:
        return {}


@cache
def engine_now(settings: ModelSettings, name: str) -> Engine:
    """Return the engine, which calls its files as its own code does now, where that is at hand. One
    that serves another problem by now is said, and keeps the name of what was measured."""
    engine = ENGINES[name]
    try:
        if own_code_of(engine, settings.engine_sources) is not None:
            return named(model_shape(settings), settings, engine)
    except AutotuneError as error:
        _log.warning("a file of %s has the name by our rules: %s", engine.title, error)
    return engine


def output_folder(study: MeasuredStudy) -> Path:
    """Return the folder of the study's engine files, as its settings have it."""
    return Path(str(study.attrs.settings.get("output_dir", ".")))


def recording_folder(study: MeasuredStudy) -> str | None:
    """Return the folder of the recording that the study was tuned on; None without one."""
    model = study.attrs.settings.get("model")
    folder = model.get("topk_ids_dir") if isinstance(model, dict) else None
    return folder if isinstance(folder, str) else None


def stored_results(
    study: MeasuredStudy, *, engine_of: Callable[[str], Engine] = ENGINES.__getitem__
) -> list[Result]:
    """Return one result per engine, against the defaults and what the user's files held."""
    engines = tuple(engine_of(name) for name in _known_engines(study))
    job, own = Job(study.key.problem, engines), study.attrs.own_config
    incumbents = with_users_files(
        job.incumbents(study.key.device, output_folder(study), own),
        study.attrs.users_files,
        {entry.config for entry in study.measured},
    )
    return results_of(study, engines, incumbents)


def unfinished_settings(
    studies: Iterable[MeasuredStudy], *, trials: int | None = None, timeout_s: float | None = None
) -> list[RunSettings]:
    """Return the distinct settings of studies that lack measurements, in order of study name; with
    ``trials`` and ``timeout_s`` in place of the stored ones, where these are given. Settings that
    differ in nothing but the model are one run of several models."""
    found: list[RunSettings] = []
    for study in studies:
        try:
            stored = settings_of(study)
        except UsageError as error:
            _log.warning("left out: %s", error)
            continue
        settings = replace(
            stored,
            trials=stored.trials if trials is None else trials,
            timeout_s=stored.timeout_s if timeout_s is None else timeout_s,
        )
        is_left = not study.is_finished if trials is None else len(study.measured) < trials
        if is_left and settings not in found:
            found.append(settings)
    return _of_several_models(found)


def _of_several_models(alone: Iterable[RunSettings]) -> list[RunSettings]:
    """Join settings of models that may share workers: no recording is of several models."""
    runs: list[RunSettings] = []
    for settings in alone:
        model = settings.model
        is_like = (i for i, run in enumerate(runs) if run.of_model(model) == settings)
        place = None if model.topk_ids_dir else next(is_like, None)
        if place is None:
            runs.append(settings)
        else:
            more = (*runs[place].more_models, model)
            runs[place] = replace(runs[place], more_models=more)
    return runs


def select(studies: Sequence[Chosen], model: str | None) -> list[Chosen]:
    """Return the studies of one model, or all. Raises UsageError where there are none."""
    if model is None:
        chosen = list(studies)
    else:
        of_model = ((study, study.attrs.of_model(model)) for study in studies)
        chosen = [replace(study, attrs=attrs) for study, attrs in of_model if attrs is not None]
    if not chosen:
        known = sorted({name for study in studies for name in study.attrs.model_names})
        what = f"for --model {model}; it knows {', '.join(known)}" if known else "at all"
        raise UsageError(f"the storage has no studies {what}")
    return chosen


def of_one_routing(studies: Sequence[StoredStudy], routing: str | None) -> list[StoredStudy]:
    """Return the studies of ``routing``, or all. A name without its numbers or digest will do.

    Raises UsageError where it has none, and where two routings have winners for one entry of a
    file: the engines' files do not know routing.
    """
    found: dict[_Entry, set[str]] = {}
    chosen = []
    for study in newest(studies):
        problem = study.key.problem
        if routing is None or _is_named(problem.routings, routing.split(",")):
            chosen.append(study)
            for engine in _known_engines(study):
                entry = _entry(study, engine, replace(problem, routing="", ep_rank=0))
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
    L2, an engine's own kernel, a config for each GEMM) or in the gate, which no file name tells,
    for each engine the one that was worked on last, of those on its own kernel, and of those that
    are finished, where there are any; the log names the others. A study that is kept for some of
    its engines is for these alone."""
    last: dict[_Entry, StoredStudy] = {}
    for study in studies:
        for engine in _known_engines(study):
            entry = _entry(study, engine, study.key.problem)
            if entry not in last or _rank(last[entry], engine) < _rank(study, engine):
                last[entry] = study
    engines: dict[str, list[str]] = {}
    for (engine, _, _), study in last.items():
        engines.setdefault(study.name, []).append(engine)
    left = sorted({_timing_words(s.key) for s in studies if s.name not in engines})
    if left:
        _log.warning(
            "left out: studies timed otherwise (%s), where there are newer or finished ones of the "
            "same batch size, or ones on the engine's own kernel",
            "; ".join(left),
        )
    return [
        replace(study, attrs=study.attrs.of_engines(engines[study.name]))
        for study in studies
        if study.name in engines
    ]


def _known_engines(study: MeasuredStudy) -> list[str]:
    return [name for name in study.attrs.engines if name in ENGINES]


def _entry(study: StoredStudy, engine: str, problem: Problem) -> _Entry:
    problem = replace(problem, gated=True, kernel=KernelMode.FUSED)
    return engine, problem, replace(study.key.device, method="")


def _timing_words(key: StudyKey) -> str:
    return f"{key.device.method}, --kernel {key.problem.kernel.value}"


def _rank(study: StoredStudy, engine: str) -> tuple[bool, bool, float]:
    """Return whether it has measurements on the engine's own kernel, whether it is finished, and
    the start of its last trial in seconds since 1970; 0 without one."""
    kernel = measured_kernel(ENGINES[engine], study.key.problem, study.key.device)
    starts = (t.datetime_start.timestamp() for t in study.trials if t.datetime_start)
    is_own = kernel is not None and kernel.is_own and bool(study.measured)
    return is_own, study.is_finished, max(starts, default=0)


def _is_named(routings: Sequence[str], names: Sequence[str]) -> bool:
    return len(routings) == len(names) and all(
        canonical(routing) == canonical(name) or routing.startswith(f"{name}:")
        for routing, name in zip(routings, names, strict=True)
    )
