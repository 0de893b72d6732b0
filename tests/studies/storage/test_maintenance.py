"""``storage check``, ``backup`` and ``upgrade``: sound, damaged, old and live storages."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import optuna
import pytest
import sqlalchemy
from servers import Server  # type: ignore[import-not-found]
from small_landscape import SHAPE  # type: ignore[import-not-found]
from storages import KINDS, fresh_storage  # type: ignore[import-not-found]

from autotune.cli import run_command_line
from autotune.studies.coordination.leases import Lease
from autotune.studies.storage.open import close_storage, open_storage

Command = Callable[..., tuple[int, Any, str]]
_OLD = Path(__file__).with_name("optuna_3_1.sql")


@pytest.fixture
def storage_command(capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs ``storage …``; gives the exit code, stdout as JSON, and stderr."""

    def command(action: str, storage: object, *words: str) -> tuple[int, Any, str]:
        code = run_command_line(["storage", action, "--storage", str(storage), *words, "--json"])
        out, err = capsys.readouterr()
        return code, json.loads(out) if out else None, err

    return command


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A file that Optuna 3.1.1 made."""
    path = tmp_path / "old.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(_OLD.read_text())
    return path


def _fill(storage: str, trials: int = 3) -> None:
    opened = open_storage(storage, create=True)
    study = optuna.create_study(storage=opened, study_name="s", load_if_exists=True)
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=trials)
    study.set_user_attr("by", "µ")
    close_storage(opened)


def _values(storage: str) -> list[float]:
    opened = open_storage(storage, create=False)
    study = optuna.load_study(study_name="s", storage=opened)
    assert study.user_attrs == {"by": "µ"}
    values = [trial.value for trial in study.trials]
    close_storage(opened)
    return values


def _dump(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        return list(connection.iterdump())


def _rows(found: Any) -> dict[str, dict[str, str]]:
    return {row["what"]: row for row in found["checks"]}


@pytest.fixture(params=KINDS)
def filled(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with fresh_storage(request.param, tmp_path, request) as storage:
        _fill(storage)
        yield storage


def test_a_sound_storage_and_its_copy(
    filled: str, tmp_path: Path, storage_command: Command
) -> None:
    code, found, _ = storage_command("check", filled)
    assert (code, _rows(found)["trials"]["detail"]) == (0, "3 complete")
    copy = tmp_path / "copy"
    code, written, _ = storage_command("backup", filled, str(copy))
    assert (code, written["backup"]) == (0, str(copy))
    again = f"journal:{copy}" if filled.startswith("journal:") else str(copy)
    assert _values(again) == _values(filled)
    code, _, err = storage_command("backup", filled, str(copy))
    assert (code, "overwrites nothing" in err) == (2, True)


def test_our_bookkeeping_is_no_study_of_others(tmp_path: Path, storage_command: Command) -> None:
    path = tmp_path / "s.db"
    _fill(str(path))
    storage = open_storage(str(path), create=False)
    with Lease(storage, "cuda:0"):
        pass
    close_storage(storage)
    code, found, _ = storage_command("check", path)
    rows = _rows(found)
    assert (code, rows["studies"]["detail"]) == (0, "none of ours, 1 of others")
    assert rows["trials"]["detail"] == "3 complete"


def test_a_copy_of_a_storage_in_use_is_whole(tmp_path: Path, storage_command: Command) -> None:
    path = str(tmp_path / "live.db")
    _fill(path)
    stop = threading.Event()

    def write() -> None:
        opened = open_storage(path, create=False)
        study = optuna.load_study(study_name="s", storage=opened)
        while not stop.is_set():
            study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=1)
        close_storage(opened)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for number in range(3):
            code, _, err = storage_command("backup", path, str(tmp_path / f"{number}.db"))
            assert code == 0, err
    finally:
        stop.set()
        writer.join()
    for number in range(3):
        code, found, _ = storage_command("check", tmp_path / f"{number}.db")
        assert (code, _rows(found)["integrity"]["detail"]) == (0, "ok")
        assert len(_values(str(tmp_path / f"{number}.db"))) >= 3
    assert not list(tmp_path.glob(".*"))


def test_the_default_name_is_beside_the_file(tmp_path: Path, storage_command: Command) -> None:
    _fill(str(tmp_path / "some.db"))
    _, written, _ = storage_command("backup", tmp_path / "some.db")
    path = Path(written["backup"])
    assert path.parent == tmp_path
    assert path.name.startswith("some-2")
    assert path.suffix == ".db"


def test_an_old_storage_is_refused_untouched_then_upgraded_with_a_copy(
    old: Path, tmp_path: Path, storage_command: Command
) -> None:
    before, dumped = old.read_bytes(), _dump(old)
    for words in (["resume"], ["export"], ["run", "--shape", SHAPE]):
        assert run_command_line([*words, "--storage", str(old)]) == 2
    code, found, _ = storage_command("check", old)
    assert (code, _rows(found)["schema"]["state"]) == (1, "error")
    assert "storage upgrade" in _rows(found)["schema"]["detail"]
    assert old.read_bytes() == before
    code, done, err = storage_command("upgrade", old)
    assert code == 0, err
    assert _dump(Path(done["backup"])) == dumped
    code, found, _ = storage_command("check", old)
    assert (code, _rows(found)["trials"]["detail"]) == (0, "1 running, 4 complete")
    study = optuna.load_study(study_name="old", storage=open_storage(str(old), create=True))
    assert [trial.user_attrs for trial in study.trials[:4]] == [{"a": 1}] * 4
    assert storage_command("upgrade", old)[1]["backup"] is None  # nothing left to do


def test_an_old_database_on_a_server_is_upgraded_once_it_is_backed_up(
    postgres: Server, storage_command: Command
) -> None:
    url = postgres.new_url()
    _fill(url)
    engine = sqlalchemy.create_engine(url)
    with engine.begin() as connection:  # all that the last step of the schema changed
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = 'v3.0.0.d'")
        connection.exec_driver_sql("DROP INDEX ix_trials_study_id")
    code, _, err = storage_command("upgrade", url)
    assert code == 2
    assert "pg_dump" in err
    assert storage_command("upgrade", url, "--backed-up")[0] == 0
    assert len(_values(url)) == 3
    assert "trials_study_id_key" in str(sqlalchemy.inspect(engine).get_indexes("trials"))
    engine.dispose()


def test_a_newer_storage_is_refused_untouched(old: Path, storage_command: Command) -> None:
    with closing(sqlite3.connect(old)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = 'v99.0.0.a'")
    before = old.read_bytes()
    code, _, err = storage_command("upgrade", old)
    assert (code, "newer version of Optuna" in err) == (2, True)
    assert storage_command("check", old)[0] == 1
    assert old.read_bytes() == before


def test_a_damaged_file(tmp_path: Path, storage_command: Command) -> None:
    path = tmp_path / "some.db"
    _fill(str(path), 30)
    content = bytearray(path.read_bytes())
    content[8192:-8192] = b"\x55" * (len(content) - 16384)
    path.write_bytes(content)
    code, found, _ = storage_command("check", path)
    assert code == 1
    assert _rows(found)["integrity"]["state"] == "error"
    code, _, err = storage_command("backup", path)
    assert code == 2
    assert "recover" in err
    assert [p.name for p in tmp_path.iterdir() if "-2" in p.name or p.name.startswith(".")] == []
    for words in ("status", "best", "export", "resume"):
        assert run_command_line([words, "--storage", str(path)]) in (1, 2)


def test_what_is_not_there(tmp_path: Path, storage_command: Command) -> None:
    for action in ("check", "backup", "upgrade"):
        code, _, err = storage_command(action, tmp_path / "none.db")
        assert (code, "there is no storage" in err) == (2, True)
    assert list(tmp_path.iterdir()) == []
