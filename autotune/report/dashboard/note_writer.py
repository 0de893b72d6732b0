"""Each study's note, figures and picture in the storage, as good as the study is."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.storages import BaseStorage
from optuna.study import Study

import autotune
from autotune.backends.host_facts import host_facts
from autotune.errors import MissingExtraError
from autotune.intervals import LULL_S
from autotune.report.dashboard.artifacts import hang_picture, has_picture
from autotune.report.dashboard.notes import Names, NotedStudy, note
from autotune.report.dashboard.stored_note import save_note
from autotune.shown import counted
from autotune.spec.config import AnyConfig
from autotune.spec.device import DeviceKind
from autotune.studies.outcome import TrialResult
from autotune.studies.search.history import Known
from autotune.studies.storage.retry import STORAGE_ERRORS, error_words, is_damage
from autotune.studies.storage.transactions import storage_of, study_id_of
from autotune.studies.study_attributes import (
    StudyAttributes,
    attributes_of,
    write_best,
    write_machine,
    write_noted,
)
from autotune.studies.study_record import MeasuredStudy, StoredStudy
from autotune.studies.trial_record import fastest_first
from autotune.tuning.observer import RunObserver, RunStart
from autotune.tuning.stored_results import stored_results
from autotune.tuning.study_words import layer_words, stored_layer_words
from autotune.tuning.tuning_study import TuningStudy

_log = logging.getLogger(__name__)
_EVERY = 10
"""A study's note is written at its first measurement and every so many: about 15 ms each."""
_TROUBLE = (OSError, *STORAGE_ERRORS)
"""Errors of a storage or disk, which must not end a run: the trials themselves will tell."""


class NoteWriter(RunObserver):
    """An observer that writes notes during a run. ``folder`` takes the pictures.

    A thread writes them: drawing takes seconds to import, and a run must hear its workers and
    Ctrl-C meanwhile. The interpreter waits for it at its end, so that none is cut off in drawing.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._studies: Sequence[TuningStudy] = ()
        self._known: Iterable[Known] = ()
        self._names: Names = {}
        self._machine: dict[str, str] = {}
        self._queued: set[tuple[str, bool]] = set()
        self._thread = ThreadPoolExecutor(1)

    def started(self, start: RunStart) -> None:
        self._queued = set()
        self._thread = ThreadPoolExecutor(1)
        self._studies, self._known = start.studies, start.history
        self._names = _names(start)
        self._machine = host_facts(start.device)

    def trial_told(self, study: TuningStudy, config: AnyConfig, result: TrialResult) -> None:
        if result.measurement and len(study.measured) % _EVERY == 1:
            self._queue(study)

    def study_ended(self, study: TuningStudy) -> None:
        """What is measured has finals, and is drawn with them: it takes a fifth of a second."""
        if study.key.device.kind is not DeviceKind.CUDA:
            self._queue(study, is_last=True)

    def finals_measured(self, study: TuningStudy) -> None:
        self._queue(study, is_last=True)

    def close(self, is_hurried: Callable[[], bool]) -> None:
        """Write what changed since each note. Once ``is_hurried``, what is not begun is left to
        ``dashboard`` (``refresh_notes``) or the next run."""
        last = [self._thread.submit(self._write, study, is_last=True) for study in self._studies]
        if not is_hurried() and wait(last, LULL_S).not_done:
            _log.info("waiting for the dashboard's notes and pictures")
        while not is_hurried() and wait(last, LULL_S).not_done:
            pass
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _queue(self, study: TuningStudy, *, is_last: bool = False) -> None:
        entry = study.optuna_study.study_name, is_last
        if entry not in self._queued:
            self._queued.add(entry)
            self._thread.submit(self._write, study, is_last=is_last)

    def _write(self, study: TuningStudy, *, is_last: bool) -> None:
        """Write the study's note, with the picture where it is the last, unless that is written as
        it is now, by this run or an earlier one."""
        name = study.optuna_study.study_name
        self._queued.discard((name, is_last))
        try:
            attrs = attributes_of(study.optuna_study)
            noted = _noted(study, attrs)
            if not noted.measured or attrs.noted == _state(noted):
                return
            write_machine(study.optuna_study, self._machine)
            folder = self._folder if is_last else None
            write_note(study.optuna_study, noted, self._known, self._names, folder)
        except _TROUBLE as error:
            _say(f"the note of {name}", error)
        except Exception:  # noqa: BLE001  no mistake of ours in a note may cost a run
            _log.exception("the note of %s failed", name)
        finally:
            storage_of(study.optuna_study).remove_session()  # this thread's


def _names(start: RunStart) -> Names:
    """Return what other studies of the storage, and those of the run, are called."""
    stored = (study for study in start.history if isinstance(study, MeasuredStudy))
    return {s.key.problem: stored_layer_words(s.attrs, s.key.problem) for s in stored} | {
        study.key.problem: layer_words(model.label, study.key.problem)
        for model in start.models
        for study in model.studies
    }


def _say(what: str, error: Exception) -> None:
    """Of a damaged storage the run itself tells, by one line."""
    level = logging.DEBUG if is_damage(error) else logging.WARNING
    _log.log(level, "%s could not be written: %s", what, error_words(error))


def refresh_notes(storage: BaseStorage, studies: Iterable[StoredStudy], folder: Path) -> int:
    """Write the notes that are missing or out of date, or whose picture is not in ``folder``;
    return how many.

    The caller knows that no run is in work: a run keeps its own. Raises OSError where ``folder``
    cannot be written.
    """
    known = [study for study in studies if study.measured]
    names = {s.key.problem: stored_layer_words(s.attrs, s.key.problem) for s in known}
    old = {}
    for stored in known:
        noted = NotedStudy(
            key=stored.key,
            layer=stored_layer_words(stored.attrs, stored.key.problem),
            sampler=stored.attrs.search.sampler if stored.attrs.search else "",
            measured=stored.measured,
            target=stored.attrs.target,
            ended=stored.attrs.end.text if stored.attrs.end else "",
            results=stored_results(stored),
        )
        is_drawn = noted.best_us is None or has_picture(folder, stored.name)
        if stored.attrs.noted != _state(noted) or not is_drawn:
            old[stored.name] = noted
    if old:
        _log.info("writing %s with pictures", counted(len(old), "note"))
    for name, noted in old.items():
        study = optuna.load_study(study_name=name, storage=storage)
        write_note(study, noted, known, names, folder)
    return len(old)


def write_note(
    study: Study, noted: NotedStudy, known: Iterable[Known], names: Names, folder: Path | None
) -> None:
    """Write a study's note and figures, and with ``folder`` the best trial's picture and the state
    that both are of."""
    picture = None
    best_us, default_us = noted.best_us, noted.default_us
    if best_us is not None:
        write_best(study, best_us, default_us)
        picture = _picture(study, noted, folder) if folder is not None else None
    _name_objective(study)
    save_note(study, note(noted, known, names, picture))
    if folder is not None:
        write_noted(study, _state(noted))


def _state(noted: NotedStudy) -> str:
    """Return in words what a note and its picture are of. Of an end it has the reason alone: each
    worker finds figures of its own."""
    engines = " and ".join(result.engine.name for result in noted.results)
    measured = f"{len(noted.measured)} of {noted.target}, {len(noted.finalists)} finalists"
    end = noted.ended.partition(":")[0]
    return f"{autotune.__version__}: {noted.layer}, {engines}, {measured}, {end}"


def _name_objective(study: Study) -> None:
    if study.metric_names is None:
        # For good: filters are the whole process's, and this may be a thread of it.
        warnings.filterwarnings("ignore", r".*\bset_metric_names is", ExperimentalWarning)
        study.set_metric_names(["µs"])


def _noted(study: TuningStudy, attrs: StudyAttributes) -> NotedStudy:
    """Return what the note says of a study in work."""
    return NotedStudy(
        key=study.key,
        layer=stored_layer_words(attrs, study.key.problem),
        sampler=study.terms.sampler,
        measured=list(study.measured),  # the run goes on meanwhile
        target=study.target,
        ended=study.ended,
        results=study.results(),
    )


def _picture(study: Study, noted: NotedStudy, folder: Path) -> str | None:
    """Hang the picture; None where matplotlib, which takes a second to import, is not installed."""
    try:
        from autotune.report.dashboard.study_picture import study_png
    except MissingExtraError as error:
        _log.debug("%s", error)
        return None
    best = fastest_first(noted.measured)[0]
    storage, study_id = storage_of(study), study_id_of(study)
    trial_id = storage.get_trial_id_from_study_id_trial_number(study_id, best.trial_number)
    return hang_picture(study_png(noted), folder, storage, study_id, trial_id)
