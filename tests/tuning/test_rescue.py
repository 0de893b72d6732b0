"""A storage that is deleted, replaced, cut or overwritten under a run."""

from __future__ import annotations

import logging
import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy

from autotune.errors import StorageLostError
from autotune.report.dashboard.note_writer import NoteWriter
from autotune.settings import RunSettings
from autotune.spec.config import AnyConfig
from autotune.studies.outcome import TrialResult
from autotune.studies.storage.open import open_storage
from autotune.studies.storage.retry import retry_storage
from autotune.studies.study_record import stored_studies
from autotune.tuning.observer import RunObserver
from autotune.tuning.session import run
from autotune.tuning.tuning_study import TuningStudy

Make = Callable[..., RunSettings]


class _Harm(RunObserver):
    """Does something to the storage once so many trials were measured."""

    def __init__(self, do: Callable[[], object], after: int = 8) -> None:
        self._do, self._after, self.measured = do, after, 0

    def trial_told(self, study: TuningStudy, config: AnyConfig, result: TrialResult) -> None:
        self.measured += 1
        if self.measured == self._after:
            self._do()


def _overwrite(path: Path) -> None:
    """Put zeros into the middle of the file."""
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(bytes(path.stat().st_size - 4096))


def _replace(path: Path) -> None:
    copy = path.with_name("other.db")
    shutil.copyfile(path, copy)
    copy.replace(path)


HARMS: dict[str, Callable[[Path], object]] = {
    "was deleted|was replaced": Path.unlink,  # SQLite may make it anew before we look
    "was replaced by another file": _replace,
    "cut|overwritten": lambda path: os.truncate(path, 0),
    "damaged|overwritten|cut|lost": _overwrite,
}


@pytest.mark.parametrize("words", HARMS)
@pytest.mark.parametrize("kind", ["sqlite", "journal"])
def test_a_storage_that_is_lost_ends_the_run_and_is_rescued(
    settings: Make, tmp_path: Path, words: str, kind: str, landscape: Path
) -> None:
    path = tmp_path / "s.db"
    text = str(path) if kind == "sqlite" else f"journal:{path}"
    harm = _Harm(lambda: HARMS[words](path))
    slow = settings(device=f"replay:{landscape}@100ms", trials=200)
    with pytest.raises(StorageLostError, match=words) as raised:
        run(slow, text, harm)
    assert harm.measured < 300  # within seconds
    [rescue] = tmp_path.glob("s-rescue-*.db")
    assert f"resume --storage {rescue}" in str(raised.value)
    kept = stored_studies(open_storage(str(rescue), create=False))
    assert sum(len(study.measured) for study in kept) >= 8
    assert all(study.attrs.settings == slow.as_json() for study in kept)


def test_a_run_goes_on_with_what_was_rescued(
    settings: Make, tmp_path: Path, landscape: Path
) -> None:
    path = tmp_path / "s.db"
    slow = settings(device=f"replay:{landscape}@100ms", trials=200)
    with pytest.raises(StorageLostError):
        run(slow, str(path), _Harm(path.unlink))
    [rescue] = tmp_path.glob("s-rescue-*.db")
    known = sum(len(s.measured) for s in stored_studies(open_storage(str(rescue), create=False)))
    report = run(settings(trials=30), str(rescue))
    assert report.unfinished == 0
    assert report.measured <= 60 - known


def test_a_storage_that_is_backed_up_and_vacuumed_is_none_lost(
    settings: Make, tmp_path: Path
) -> None:
    path = tmp_path / "s.db"

    def look_after() -> None:
        with sqlite3.connect(path, timeout=30) as connection:
            connection.execute("VACUUM")

    assert run(settings(), str(path), _Harm(look_after)).unfinished == 0


@pytest.mark.parametrize(
    ("kind", "table"),
    [
        ("sqlite", "trials"),
        ("sqlite", "study_system_attributes"),
        ("postgres", "trial_user_attributes"),
    ],
)
def test_a_storage_that_loses_a_table_is_lost_and_nothing_else_is_said(
    *,
    settings: Make,
    tmp_path: Path,
    landscape: Path,
    kind: str,
    table: str,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.chdir(tmp_path)
    url = f"sqlite:///{tmp_path}/s.db"
    if kind == "postgres":
        url = request.getfixturevalue("postgres").new_url()

    def drop() -> None:
        engine = sqlalchemy.create_engine(url)
        with engine.begin() as connection:
            connection.exec_driver_sql(f"DROP TABLE {table}{' CASCADE' * (kind == 'postgres')}")
        engine.dispose()

    slow = settings(device=f"replay:{landscape}@100ms", trials=200)
    with pytest.raises(StorageLostError, match=rf"has lost tables \({table}\) while"):
        run(slow, url, _Harm(lambda: retry_storage(drop)), NoteWriter(tmp_path))
    assert list(tmp_path.glob("*-rescue-*.db"))
    assert [r for r in caplog.records if r.levelno >= logging.WARNING] == []
