"""The notes, figures and pictures that a run leaves for the dashboard."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from threading import Event

import optuna
import pytest
from finished_run import Finished  # type: ignore[import-not-found]
from optuna.storages import RDBStorage
from optuna.study import Study
from optuna_dashboard import get_note, save_note
from trials import ask, tell  # type: ignore[import-not-found]

from autotune.engines import ENGINES
from autotune.report.dashboard import note_writer, stored_note
from autotune.report.dashboard.note_writer import NoteWriter, refresh_notes
from autotune.report.dashboard.notes import NotedStudy, plain
from autotune.report.terminal.run_display import PlainDisplay
from autotune.spec.config import AnyConfig, Config
from autotune.spec.device import Device, DeviceKind, Target
from autotune.spec.measurement import Measurement
from autotune.spec.problem import Problem
from autotune.studies.key import StudyKey
from autotune.studies.lifecycle import StudyEnd
from autotune.studies.outcome import Outcome, TrialResult
from autotune.studies.search.history import StudyHistory
from autotune.studies.search.samplers import SAMPLERS
from autotune.studies.selection.finalists import Finalist
from autotune.studies.space import Space
from autotune.studies.storage.maintenance import back_up
from autotune.studies.storage.open import open_storage
from autotune.studies.study_attributes import (
    SearchTerms,
    run_attributes,
    write_end,
    write_finalists,
)
from autotune.studies.study_record import open_study, stored_studies
from autotune.tuning.jobs import Job
from autotune.tuning.observer import RunStart
from autotune.tuning.session import run
from autotune.tuning.tuning_study import StudyPlan, TuningStudy

_PNG = b"\x89PNG"
_GPU = Device(DeviceKind.CUDA, "NVIDIA H200", Target("cuda", 90), 232448, "3.6.0")


def _loaded(finished: Finished, storage: RDBStorage) -> list[optuna.Study]:
    return [optuna.load_study(study_name=s.name, storage=storage) for s in finished.studies()]


def test_each_study_has_a_note_with_its_best_and_what_its_sampler_knew(finished: Finished) -> None:
    storage = open_storage(finished.storage, create=False)
    for stored, study in zip(finished.studies(), _loaded(finished, storage), strict=True):
        text = get_note(study)
        best = min((e for e in stored.measured if e.complete), key=lambda e: e.geomean_us)
        assert f"batch size {stored.key.problem.tokens}" in text
        assert f"`{best.config}`" in text
        assert "Replayed" in text
        assert "random sampler learns from this study alone" in text
        assert "/artifacts/" in text
        assert study.user_attrs["best_us"] == round(best.geomean_us, 2)
        assert study.user_attrs["speedup"] >= 1
        assert study.metric_names == ["µs"]


def test_the_best_trial_alone_has_the_picture(finished: Finished) -> None:
    storage = open_storage(finished.storage, create=False)
    for study in _loaded(finished, storage):
        attrs = storage.get_study_system_attrs(study._study_id)
        metas = {k: json.loads(v) for k, v in attrs.items() if k.startswith("dashboard:artifacts:")}
        [(key, meta)] = [(key, meta) for key, meta in metas.items() if meta]
        assert key.split(":")[2] == str(study.best_trial._trial_id)
        assert (finished.artifacts / meta["artifact_id"]).read_bytes().startswith(_PNG)


def test_refreshing_writes_what_is_missing_and_nothing_twice(
    finished: Finished, tmp_path: Path
) -> None:
    copy = back_up(finished.storage, tmp_path / "copy.db")
    storage = open_storage(str(copy), create=False)
    studies = _loaded(finished, storage)
    for study in studies:
        save_note(study, "gone")
    stored = stored_studies(storage)
    assert refresh_notes(storage, stored, tmp_path / "artifacts") == len(studies)
    notes = [get_note(study) for study in studies]
    assert all("batch size" in text for text in notes)
    attrs = [storage.get_study_system_attrs(study._study_id) for study in studies]
    assert refresh_notes(storage, stored, tmp_path / "artifacts") == 0
    assert [storage.get_study_system_attrs(study._study_id) for study in studies] == attrs


@pytest.mark.parametrize("letters", [0, 1, 2045, 2046, 5000])
def test_the_dashboard_reads_our_notes_and_we_overwrite_its_own(letters: int) -> None:
    study = optuna.create_study()
    stored_note.save_note(study, "µ" * letters)
    assert get_note(study) == "µ" * letters
    save_note(study, "written by a person " * 300)
    stored_note.save_note(study, "µ" * letters)
    assert get_note(study) == "µ" * letters


def test_a_run_without_extras_leaves_notes_without_pictures(
    finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("matplotlib", "optuna_dashboard"):
        monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delitem(sys.modules, "autotune.report.style", raising=False)
    monkeypatch.delitem(sys.modules, "autotune.report.dashboard.study_picture", raising=False)
    copy = back_up(finished.storage, tmp_path / "copy.db")
    storage = open_storage(str(copy), create=False)
    refresh_notes(storage, stored_studies(storage), tmp_path / "artifacts")
    notes = [get_note(study) for study in _loaded(finished, storage)]
    assert all("batch size" in text and "/artifacts/" not in text for text in notes)
    assert not (tmp_path / "artifacts").exists()


def test_a_note_that_cannot_be_kept_does_not_end_a_run(finished: Finished, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    writer = NoteWriter(tmp_path / "file" / "artifacts")
    report = run(finished.settings, str(tmp_path / "other.db"), writer)
    assert report.failed == {}
    assert report.measured == 40


class _SlowNotes:
    """Stands in place of ``write_note``: each call waits until something has happened."""

    def __init__(self) -> None:
        self.released = Event()
        self.written: list[bool] = []

    def __call__(self, *words: object) -> None:
        self.written.append(self.released.wait(30))


class _After(PlainDisplay):
    """Does something at a measurement."""

    def __init__(self, number: int, action: object) -> None:
        super().__init__()
        self._left, self._action = number, action

    def trial_told(self, study: TuningStudy, config: AnyConfig, result: TrialResult) -> None:
        self._left -= 1
        if self._left == 0:
            self._action()  # type: ignore[operator]


def test_a_run_does_not_wait_for_its_notes(
    finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes = _SlowNotes()
    monkeypatch.setattr(note_writer, "write_note", notes)
    observers = _After(40, notes.released.set), NoteWriter(tmp_path)
    assert run(finished.settings, str(tmp_path / "other.db"), *observers).measured == 40
    assert len(notes.written) >= 2  # the last state of both studies, before the run returns
    assert all(notes.written)


def test_what_is_settled_is_written_before_the_end(
    finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[tuple[int, bool]] = []
    write, all_written = note_writer.write_note, Event()

    def noting(study: optuna.Study, noted: NotedStudy, *rest: object) -> None:
        write(study, noted, *rest)  # type: ignore[arg-type]
        written.append((len(noted.measured), rest[-1] is not None))
        if [each for each in written if each == (20, True)] == [(20, True)] * 2:
            all_written.set()

    class Waiting(PlainDisplay):
        """Closes before the writer does, and not before all is written."""

        def close(self, is_hurried: Callable[[], bool]) -> None:
            assert all_written.wait(30)
            written.append((0, False))

    monkeypatch.setattr(note_writer, "write_note", noting)
    monkeypatch.setattr(NoteWriter, "study_ended", lambda *_: None)
    run(finished.settings, str(tmp_path / "o.db"), Waiting(), NoteWriter(tmp_path))
    assert written[-1] == (0, False)  # nothing twice


def test_nor_does_an_interrupted_one(
    finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes = _SlowNotes()
    monkeypatch.setattr(note_writer, "write_note", notes)
    interrupt = _After(5, lambda: os.kill(os.getpid(), signal.SIGINT))
    report = run(finished.settings, str(tmp_path / "o.db"), interrupt, NoteWriter(tmp_path))
    assert report.interrupted
    assert notes.written == []
    notes.released.set()


def test_a_mistake_in_a_note_is_told_and_ends_no_run(
    finished: Finished,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(note_writer, "write_note", lambda study, *_: study.nothing)
    with caplog.at_level(logging.ERROR, "autotune"):
        report = run(finished.settings, str(tmp_path / "other.db"), NoteWriter(tmp_path))
    assert report.measured == 40
    assert "the note of" in caplog.text
    assert "AttributeError" in caplog.text


class _Hurry(PlainDisplay):
    """The user wants the end as soon as everything was measured."""

    def close(self, is_hurried: Callable[[], bool]) -> None:
        assert not is_hurried()
        os.kill(os.getpid(), signal.SIGINT)


def test_ctrl_c_is_heard_while_the_last_notes_are_written(
    finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes = _SlowNotes()
    monkeypatch.setattr(note_writer, "write_note", notes)
    observers = _Hurry(), NoteWriter(tmp_path)
    assert run(finished.settings, str(tmp_path / "other.db"), *observers).measured == 40
    assert notes.written == []  # the first still waits
    notes.released.set()


def test_a_note_that_failed_is_written_at_the_end(
    finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, failed = note_writer.write_note, set[str]()

    def fails_once(study: optuna.Study, noted: NotedStudy, *rest: object) -> None:
        if noted.target == len(noted.measured) and study.study_name not in failed:
            failed.add(study.study_name)
            raise OSError("disk full")
        write(study, noted, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(note_writer, "write_note", fails_once)
    path = str(tmp_path / "other.db")
    run(finished.settings, path, _Slow(failed), NoteWriter(tmp_path))
    storage = open_storage(path, create=False)
    notes = [get_note(study) for study in _loaded(finished, storage)]
    assert len(failed) == 2
    assert all("20 of 20" in text and "/artifacts/" in text for text in notes)


class _Slow(PlainDisplay):
    """Closes when both studies' notes have failed."""

    def __init__(self, failed: set[str]) -> None:
        super().__init__()
        self._failed = failed

    def close(self, is_hurried: Callable[[], bool]) -> None:
        until = time.monotonic() + 30
        while len(self._failed) < 2 and time.monotonic() < until:
            time.sleep(0.05)


def test_a_writer_serves_one_run_after_another(finished: Finished, tmp_path: Path) -> None:
    writer = NoteWriter(tmp_path)
    for name in ("one.db", "two.db"):
        run(finished.settings, str(tmp_path / name), writer)
        storage = open_storage(str(tmp_path / name), create=False)
        assert all("20 of 20" in get_note(study) for study in _loaded(finished, storage))


def test_what_a_recording_says_of_its_device_is_text_in_a_note() -> None:
    assert plain("NVIDIA H200, fp8_w8a8") == r"NVIDIA H200, fp8\_w8a8"
    hostile = plain("![x](http://h/p)\n# |<script>\x1b[31m")
    assert "\n" not in hostile
    assert "\x1b" not in hostile
    for mark in "![]()<>|#":
        assert f"\\{mark}" in hostile


def test_a_run_of_which_nothing_is_left_writes_no_note_again(
    finished: Finished, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[Study] = []
    monkeypatch.setattr(note_writer, "write_note", lambda study, *_: written.append(study))
    run(finished.settings, finished.storage, NoteWriter(finished.artifacts))
    assert not written


class _AtOnce:
    """An executor that does each task when it is submitted."""

    def __init__(self, threads: int) -> None:
        pass

    def submit(self, task: Callable[..., None], *args: object, **options: object) -> Future[None]:
        future: Future[None] = Future()
        future.set_result(task(*args, **options))
        return future

    def shutdown(self, **options: object) -> None:
        pass


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The studies whose picture was drawn, one after the other."""
    names: list[str] = []
    picture = note_writer._picture

    def draws(study: Study, noted: NotedStudy, folder: Path) -> str | None:
        names.append(study.study_name)
        return picture(study, noted, folder)

    monkeypatch.setattr(note_writer, "_picture", draws)
    monkeypatch.setattr(note_writer, "ThreadPoolExecutor", _AtOnce)
    return names


def _opened(path: Path) -> TuningStudy:
    """A study on a GPU, as a run opens it."""
    job = Job(Problem(8, 2, 512, 256, 64), (ENGINES["vllm"],))
    space = Space(Config(16, 64, 64, group, 4, 3) for group in (1, 8, 16, 32))
    key = StudyKey(job.problem, _GPU, space.fingerprint)
    sampler = SAMPLERS["grid"](space, 0)
    attrs = run_attributes("m", ["vllm"], {}, 3)
    study = open_study(open_storage(str(path), create=True), key, sampler, attrs)
    tuning = TuningStudy(StudyPlan(job, key, space, None, ()), study, SearchTerms("grid", 3, 0.0))
    tuning.view.read()
    return tuning


def _measure(study: TuningStudy, us: float) -> AnyConfig:
    asked = ask(study.optuna_study, study.space)
    tell(study.optuna_study, asked, _timed(us), None)
    study.view.read()
    return asked.config  # type: ignore[no-any-return]


def _timed(us: float) -> TrialResult:
    return TrialResult(Outcome.OK, Measurement((us, us), "made up"))


def _run(study: TuningStudy, folder: Path, *times_us: float) -> None:
    """What a run tells its notes' writer, of a study whose finals may be measured already."""
    writer = NoteWriter(folder)
    writer.started(RunStart((), _GPU, [study], StudyHistory()))
    for us in times_us:
        writer.trial_told(study, _measure(study, us), _timed(us))
    _end(study, 0.001)
    writer.study_ended(study)
    study.finalists = [Finalist(one.config, one.samples_us) for one in study.measured]
    write_finalists(study.optuna_study, study.finalists, len(study.measured), study.robust)
    writer.finals_measured(study)
    _end(study, 0.002)  # as another worker has it
    writer.finals_measured(study)  # asked for in the search, and at its end
    writer.close(lambda: False)


def _end(study: TuningStudy, gain: float) -> None:
    study.end = StudyEnd.converged(gain)
    write_end(study.optuna_study, study.end)


def test_a_run_draws_a_study_once_it_has_its_finals_and_the_next_run_if_it_measures(
    tmp_path: Path, drawn: list[str]
) -> None:
    study = _opened(tmp_path / "o.db")
    _run(study, tmp_path, 3.0, 1.0, 2.0)
    assert drawn == [study.key.study_name]
    note = get_note(study.optuna_study)
    assert "### Finalists" in note
    assert "/artifacts/" in note
    _run(_opened(tmp_path / "o.db"), tmp_path)
    assert get_note(study.optuna_study) == note
    assert len(drawn) == 1
    _run(_opened(tmp_path / "o.db"), tmp_path, 4.0)
    assert len(drawn) == 2


def test_the_dashboard_draws_what_is_out_of_date_once(tmp_path: Path, drawn: list[str]) -> None:
    def refresh(folder: Path) -> int:
        before = len(drawn)
        storage = open_storage(str(tmp_path / "o.db"), create=False)
        written = refresh_notes(storage, stored_studies(storage), folder)
        assert len(drawn) - before == written
        return written

    study = _opened(tmp_path / "o.db")
    _run(study, tmp_path, 3.0, 1.0, 2.0)
    assert refresh(tmp_path) == 0
    assert refresh(tmp_path / "elsewhere") == 1
    _measure(study, 4.0)
    assert refresh(tmp_path) == 1
    assert "4 of 3 measurements" in get_note(study.optuna_study)
    assert refresh(tmp_path) == 0
