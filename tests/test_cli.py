"""The words of a command that other users see of the storage it was given."""

from __future__ import annotations

import errno
import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from autotune.cli import hide_logins, run_command_line, show_bug

_URL = "postgresql://tuner:open%2Fsesame@db/moe?sslpassword=hush"


def test_the_command_line_is_shown_without_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    titles: list[str] = []
    monkeypatch.setitem(sys.modules, "setproctitle", SimpleNamespace(setproctitle=titles.append))
    hide_logins(["report", "--storage", _URL, f"--compare={_URL}", "--json"])
    [title] = titles
    assert title.count("tuner:***@db/moe?sslpassword=***") == 2
    assert "sesame" not in title
    assert "hush" not in title
    hide_logins(["status", "--storage", "autotune.db"])
    hide_logins(["status", "--storage", "x://["])
    assert len(titles) == 1  # nothing to hide: the command line stays as it is


def test_without_the_extra_the_user_is_warned(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "setproctitle", None)
    with caplog.at_level("WARNING", logger="autotune"):
        hide_logins(["status", "--storage", _URL])
    assert "AUTOTUNE_STORAGE" in caplog.text
    assert "sesame" not in caplog.text


def test_the_environment_names_the_storage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AUTOTUNE_STORAGE", f"journal:{tmp_path / 'mine'}")
    assert run_command_line(["status"]) == 2
    assert str(tmp_path / "mine") in capsys.readouterr().err
    assert run_command_line(["status", "--storage", str(tmp_path / "other.db")]) == 2
    assert "other.db" in capsys.readouterr().err
    assert run_command_line(["status", "--help"]) == 0
    assert str(tmp_path) not in capsys.readouterr().out  # help may be pasted anywhere


def test_a_bug_s_traceback_shows_no_password(capsys: pytest.CaptureFixture[str]) -> None:
    error = RuntimeError(f"cannot reach {_URL}")
    show_bug(RuntimeError, error, None)
    assert (
        capsys.readouterr().err
        == "RuntimeError: cannot reach postgresql://tuner:***@db/moe?sslpassword=***\n"
    )


def test_a_bug_is_a_document_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["autotune", "status", "--json"])
    show_bug(RuntimeError, RuntimeError(f"cannot reach {_URL}"), None)
    assert json.loads(capsys.readouterr().out) == {
        "schema": "autotune/error/1",
        "kind": "bug",
        "message": "RuntimeError: cannot reach postgresql://tuner:***@db/moe?sslpassword=***",
        "exit_code": 1,
    }


@pytest.mark.parametrize("words", [["--"], ["--config", "none"], ["--config="], ["storage", "--"]])
def test_flags_without_a_command(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command_line(words) == 2
    assert capsys.readouterr().err == "autotune: error: Missing command. See autotune --help\n"


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.EMFILE, "Too many open files"),
        (errno.ENOSPC, "standard output, or a file, cannot be written: No space left on device"),
    ],
)
def test_what_the_system_refuses_is_said_as_it_is(
    number: int, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse() -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("autotune.cli.imports_are_done", refuse)
    assert run_command_line(["models"]) == 1
    assert capsys.readouterr().err == f"autotune: error: {said}\n"
