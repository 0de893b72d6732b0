"""The main job and what looks at it, on storages that are no SQLite file; and their passwords."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from servers import PASSWORD, QUOTED, Server  # type: ignore[import-not-found]
from small_landscape import SHAPE, save_landscape  # type: ignore[import-not-found]
from storages import fresh_storage  # type: ignore[import-not-found]

import autotune
from autotune.cli import run_command_line

_PIECES = ("sesame", QUOTED)
assert "sesame" in PASSWORD


@dataclass
class _User:
    """Types commands in a folder, and keeps all that is printed."""

    folder: Path
    storage: str
    said: list[str] = field(default_factory=list)

    def types(self, *words: str, code: int = 0, storage: str | None = None) -> str:
        out, err, back = io.StringIO(), io.StringIO(), Path.cwd()
        os.chdir(self.folder)
        try:
            with redirect_stdout(out), redirect_stderr(err):
                done = run_command_line([*words, "--storage", storage or self.storage])
        finally:
            os.chdir(back)
        self.said += [out.getvalue(), err.getvalue()]
        assert done == code, err.getvalue()
        return out.getvalue()

    def starts(self, *words: str, storage: str | None = None) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "autotune", *words, "--storage", storage or self.storage]
        package = str(Path(autotune.__file__).parents[1])
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env=os.environ | {"PYTHONPATH": package, "XDG_CACHE_HOME": str(self.folder / "cache")},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def tunes(self) -> dict[str, Any]:
        words = ["run", "--shape", SHAPE, "--device", "replay:small.npz", "--batch-size", "64"]
        more = ["--trials", "8", "--sampler", "random", "--verbose", "--json"]
        return dict(json.loads(self.types(*words, *more)))


@pytest.fixture(scope="module", autouse=True)
def _title_stays() -> Iterator[None]:
    """Commands that run in this process hide passwords in their own command line alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "setproctitle", None)  # as if it were not installed
        yield


def _user(folder: Path, storage: str) -> _User:
    save_landscape(folder / "small.npz")
    return _User(folder, storage)


@contextmanager
def _dashboard(user: _User) -> Iterator[tuple[str, int]]:
    """Address and process id."""
    server = user.starts("dashboard", "--port", "0", "--verbose")
    assert server.stdout is not None
    try:
        yield server.stdout.readline().strip(), server.pid
    finally:
        server.send_signal(signal.SIGINT)
        user.said += server.communicate(timeout=20)
    assert server.returncode == 0


def _get(address: str, path: str) -> str:
    with urllib.request.urlopen(address.replace("dashboard/", path), timeout=20) as answer:
        return str(answer.read().decode())


def _study_path(address: str) -> str:
    """Return the path of the one study that measures something."""
    studies = json.loads(_get(address, "api/studies"))["study_summaries"]
    [study_id] = [s["study_id"] for s in studies if s["study_name"].startswith("E=8,")]
    return f"api/studies/{study_id}"


def test_the_main_job_and_its_winners_in_a_journal(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    with fresh_storage("journal", tmp_path, request) as storage:
        user = _user(tmp_path, storage)
        ran = user.tunes()
        [model] = ran["models"]
        assert (ran["new_measurements"], model["failed"], ran["unfinished"]) == (8, {}, 0)
        [row] = json.loads(user.types("status", "--json"))["studies"]
        assert (row["measurements"], row["state"]) == (8, "finished")
        best = json.loads(user.types("best", "--json"))["results"]
        assert best == model["results"]
        with _dashboard(user) as (address, _):
            assert _study_path(address).startswith("api/studies/")


@pytest.fixture(scope="module")
def on_postgres(
    postgres: Server, tmp_path_factory: pytest.TempPathFactory
) -> tuple[_User, dict[str, Any]]:
    """Somebody who did everything once, well and badly."""
    user = _user(tmp_path_factory.mktemp("postgres"), postgres.new_url())
    seen: dict[str, Any] = {"ran": user.tunes(), "again": user.tunes()}
    for command in ("status", "best", "export", "doctor"):
        seen[command] = json.loads(user.types(command, "--json"))
    for words in (["report"], ["storage", "check"], ["resume"]):
        seen[words[0]] = user.types(*words)
    user.types("storage", "backup", "copy.db")
    with _dashboard(user) as (address, pid):
        seen["shown"] = Path(f"/proc/{pid}/cmdline").read_text()
        seen["page"] = _get(address, "dashboard/")
        seen["study"] = _get(address, _study_path(address))
    wrong = user.storage.replace(QUOTED, f"{QUOTED}x")
    nowhere = user.storage.replace(f":{postgres.port}/", ":1/")
    odd = user.storage.replace(QUOTED, PASSWORD)
    for storage in (wrong, nowhere, odd):
        for command in ("status", "resume", "dashboard"):
            user.types(command, "--verbose", storage=storage, code=2)
    return user, seen


def test_every_command_works_on_postgresql(on_postgres: tuple[_User, dict[str, Any]]) -> None:
    _, seen = on_postgres
    assert [seen[run]["new_measurements"] for run in ("ran", "again")] == [8, 0]
    [row] = seen["status"]["studies"]
    assert (row["measurements"], row["state"]) == (8, "finished")
    assert seen["best"]["results"] == seen["ran"]["models"][0]["results"]
    assert seen["export"]["results"] == seen["best"]["results"]
    assert seen["export"]["files"] == seen["ran"]["files"]
    checks = {check["what"]: check["state"] for check in seen["doctor"]["checks"]}
    assert checks["storage"] == "ok"
    assert "report.html" in seen["report"]
    assert "finalists" in seen["study"].lower()  # its note


def test_the_password_is_nowhere(on_postgres: tuple[_User, dict[str, Any]]) -> None:
    user, seen = on_postgres
    texts = [*user.said, seen["shown"], seen["page"], seen["study"]]
    texts += [path.read_bytes().decode("latin-1") for path in _files(user.folder)]
    engine = sqlalchemy.create_engine(user.storage)
    with engine.connect() as connection:
        for table in sqlalchemy.inspect(engine).get_table_names():
            texts += map(str, connection.exec_driver_sql(f"SELECT * FROM {table}"))
    engine.dispose()
    assert len(texts) > 100
    assert [text[:200] for text in texts if any(piece in text for piece in _PIECES)] == []
    assert sum("***" in text for text in user.said) > 5  # it was shown where it should be hidden


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]
