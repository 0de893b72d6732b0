"""Keeps each study's note, figures and picture in the storage as good as the study is."""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from optuna.exceptions import ExperimentalWarning
from optuna.storages import BaseStorage
from optuna.study import Study

from autotune.backends.host_facts import facts
from autotune.intervals import LULL_S
from autotune.models import ModelShape
from autotune.report.dashboard.artifacts import hang_picture
from autotune.report.dashboard.notes import Subject, note
from autotune.report.versions import MACHINE
from autotune.spec.device import Device
from autotune.studies.outcome import TrialResult
from autotune.studies.search.history import Known
from autotune.studies.storage.retry import STORAGE_ERRORS
from autotune.tune.engine_output import results_of
from autotune.tune.observer import RunObserver
from autotune.tune.tuning_study import TuningStudy

_log = logging.getLogger(__name__)
_EVERY = 10
"""A study's note is written at its first measurement and every so many: about 15 ms each."""
_HURRY_S = 3.0
"""How long an interrupted run waits for the note in hand."""


class NoteKeeper(RunObserver):
    """An observer of a run. ``folder`` takes the pictures.

    A thread of its own writes: what writes and draws takes seconds to import, and a run must hear
    its workers and Ctrl-C meanwhile.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._studies: Sequence[TuningStudy] = ()
        self._known: Sequence[Known] = ()
        self._written: dict[str, tuple[object, ...]] = {}
        self._machine: dict[str, str] = {}
        self._orders = _Orders()
        self._thread: threading.Thread | None = None

    def started(
        self,
        shape: ModelShape,
        device: Device,
        studies: Sequence[TuningStudy],
        known: Sequence[Known],
    ) -> None:
        self._studies, self._known = studies, known
        self._written = {}
        self._machine = facts(device)
        try:
            for study in studies:
                self._sign(study.optuna_study)
                _name_objective(
                    study.optuna_study
                )  # here, since filters of warnings are a process's
        except _trouble() as error:  # a later note brings them
            _log.warning("the machine's facts could not be written: %s", error)
        self._orders = _Orders()
        self._thread = threading.Thread(target=self._work, name="notes", daemon=True)
        self._thread.start()

    def trial_told(self, study: TuningStudy, result: TrialResult) -> None:
        if result.measurement and len(study.entries) % _EVERY == 1:
            self._orders.put(study, picture=False)

    def study_ended(self, study: TuningStudy) -> None:
        self._orders.put(study, picture=True)

    def finals_measured(self, study: TuningStudy) -> None:
        """Written while others' finalists are measured: a picture takes a fifth of a second."""
        self._orders.put(study, picture=True)

    def close(self, is_hurried: Callable[[], bool]) -> None:
        """Once more for what is not written as it is now. Once ``is_hurried``, what is not begun
        is left to ``dashboard`` (``refresh_notes``) or the next run."""
        if self._thread is None:
            return
        self._orders.close(self._studies)
        while self._thread.is_alive() and not is_hurried():
            self._thread.join(LULL_S)
        self._orders.drop()
        self._thread.join(_HURRY_S)

    def _work(self) -> None:
        while (order := self._orders.take()) is not None:
            try:
                self._write(order.study, picture=order.picture)
            except Exception:  # noqa: BLE001  no mistake of ours in a note may cost a run
                _log.exception("the note of %s failed", order.study.optuna_study.study_name)
        if self._studies:
            self._studies[0].optuna_study._storage.remove_session()  # this thread's

    def _write(self, study: TuningStudy, *, picture: bool) -> None:
        name, state = study.optuna_study.study_name, (*_state(study), picture)
        if not study.entries or self._written.get(name) in (state, (*state[:-1], True)):
            return
        try:
            self._sign(study.optuna_study)
            folder = self._folder if picture and _can_draw(self._orders) else None
            write_note(study.optuna_study, subject_of(study), self._known, folder)
        except _trouble() as error:
            _log.warning("the note of %s could not be written: %s", name, error)
        else:
            self._written[name] = state

    def _sign(self, study: Study) -> None:
        if study.user_attrs.get(MACHINE) != self._machine:
            study.set_user_attr(MACHINE, self._machine)


@dataclass(frozen=True, slots=True)
class _Order:
    study: TuningStudy
    picture: bool


class _Orders:
    """Which notes are wanted: each once, however often it was asked for meanwhile."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._wanted: dict[str, _Order] = {}
        self._is_closed = False
        self.is_dropped = False
        """True once the run waits for its end."""

    def put(self, study: TuningStudy, *, picture: bool) -> None:
        name = study.optuna_study.study_name
        with self._changed:
            before = self._wanted.get(name)
            self._wanted[name] = _Order(study, picture or (before is not None and before.picture))
            self._changed.notify()

    def take(self) -> _Order | None:
        """The next; waits for one. None where none is left and none will come."""
        with self._changed:
            self._changed.wait_for(lambda: self._wanted or self._is_closed)
            return self._wanted.pop(next(iter(self._wanted))) if self._wanted else None

    def close(self, last: Sequence[TuningStudy]) -> None:
        """Those and no others, with their pictures."""
        with self._changed:
            self._wanted = {
                study.optuna_study.study_name: _Order(study, picture=True) for study in last
            }
            self._is_closed = True
            self._changed.notify()

    def drop(self) -> None:
        """None at all."""
        with self._changed:
            self._wanted.clear()
            self._is_closed = self.is_dropped = True
            self._changed.notify()


def _can_draw(orders: _Orders) -> bool:
    """Imports what draws, which takes a second or more, and looks whether there is still time: a
    process that ends while a thread of it draws aborts (SIGABRT)."""
    import autotune.report.dashboard.study_picture  # noqa: F401

    return not orders.is_dropped


def _trouble() -> tuple[type[BaseException], ...]:
    """A note that cannot be written must not end a run: the trials themselves will tell."""
    return (OSError, *STORAGE_ERRORS)


def write_note(study: Study, subject: Subject, known: Sequence[Known], folder: Path | None) -> None:
    """Write note and figures, and with ``folder`` the best trial's picture."""
    from optuna_dashboard import get_note, save_note  # brings sklearn: not for ``status``

    picture = None
    best_us, default_us = subject.best_us, subject.default_us
    if best_us is not None:
        _set(study, "best_us", round(best_us, 2))
        if default_us is not None:
            _set(study, "default_us", round(default_us, 2))
            _set(study, "speedup", round(default_us / best_us, 4))
        picture = _picture(study, subject, folder) if folder is not None else None
    _name_objective(study)
    text = note(subject, known, picture)
    if get_note(study) != text:
        save_note(study, text)


def _name_objective(study: Study) -> None:
    if study.metric_names is None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            study.set_metric_names(["µs"])


def subject_of(study: TuningStudy) -> Subject:
    """Of a study in work."""
    attrs = study.optuna_study.user_attrs
    results = results_of(
        study.key.problem,
        study.key.device,
        study.job.engines,
        entries=study.entries,
        incumbents=study.incumbents,
        finalists=study.finalists,
        robust=study.robust,
    )
    return Subject(
        key=study.key,
        model=str(attrs["model"]),
        sampler=str(attrs["settings"]["sampler"]),
        entries=list(study.entries),  # the run goes on meanwhile
        target=study.target,
        ended=study.ended,
        results=results,
    )


def _picture(study: Study, subject: Subject, folder: Path) -> str:
    from autotune.report.dashboard.study_picture import study_png  # matplotlib takes a second

    best = min((e for e in subject.entries if e.complete), key=lambda entry: entry.geomean_us)
    storage: BaseStorage = study._storage
    trial_id = storage.get_trial_id_from_study_id_trial_number(study._study_id, best.trial_number)
    return hang_picture(study_png(subject), folder, storage, study._study_id, trial_id)


def _set(study: Study, name: str, value: float) -> None:
    if study.user_attrs.get(name) != value:
        study.set_user_attr(name, value)


def _state(study: TuningStudy) -> tuple[object, ...]:
    return len(study.entries), len(study.finalists), study.ended
