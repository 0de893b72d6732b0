"""A journal outlives its writers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import optuna
import pytest

from autotune.errors import StorageError
from autotune.studies.storage.journal import cut_torn_line
from autotune.studies.storage.open import open_storage


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """With one study of three trials."""
    path = tmp_path / "some.journal"
    _study(path).optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=3)
    return path


def _study(path: Path) -> optuna.Study:
    storage = open_storage(f"journal:{path}", create=True)
    return optuna.create_study(storage=storage, study_name="s", load_if_exists=True)


def test_a_torn_last_line_costs_itself_alone(journal: Path) -> None:
    with journal.open("a") as file:
        file.write('{"op_code":5,"worker_id":"x","trial_id":')
    assert len(_study(journal).trials) == 3
    _study(journal).ask()
    assert [len(_study(journal).trials), len(_study(journal).trials)] == [4, 4]
    for line in journal.read_text().splitlines():
        json.loads(line)


def test_a_damaged_line_is_named(journal: Path) -> None:
    lines = journal.read_text().splitlines()
    journal.write_text("\n".join([*lines[:4], lines[4][:9], *lines[5:]]) + "\n")
    with pytest.raises(StorageError, match=r"line 5 cannot be read. 'head -n 4 "):
        open_storage(f"journal:{journal}", create=False)


@pytest.mark.parametrize("content", [b"\x00\x96PK binary\n" * 9, b'{"a": 1}\n{}\n', b"[1]\n[2]\n"])
def test_other_files_are_refused_and_left_alone(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "other").write_bytes(content)
    with pytest.raises(StorageError, match="no journal of Optuna"):
        open_storage(f"journal:{tmp_path / 'other'}", create=True)
    assert (tmp_path / "other").read_bytes() == content


@pytest.mark.parametrize("size", [0, 1, 70_000, 200_000])
def test_cutting_finds_the_last_line_end_however_far(tmp_path: Path, size: int) -> None:
    path = tmp_path / "lines"
    for whole in (b"", b"a line\n"):
        path.write_bytes(whole + b"x" * size)
        assert cut_torn_line(path) == size
        assert path.read_bytes() == whole


def test_a_full_disk_is_an_error_and_leaves_it_whole(journal: Path) -> None:
    code = (
        "import resource, sys, optuna, signal\n"
        "from autotune.studies.storage.open import open_storage\n"
        "from autotune.studies.storage.retry import STORAGE_ERRORS\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "storage = open_storage('journal:' + sys.argv[1], create=False)\n"
        "study = optuna.load_study(study_name='s', storage=storage)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)\n"
        "try:\n"
        "    study.set_user_attr('long', 'x' * 100_000)\n"
        "except STORAGE_ERRORS as error:\n"
        "    sys.exit(str(error))\n"
    )
    limit = journal.stat().st_size + 5000  # torn in the middle of the line
    words = [sys.executable, "-W", "ignore", "-c", code, str(journal), str(limit)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert "cannot be written" in done.stderr, done.stderr
    assert journal.stat().st_size == limit
    _study(journal).set_user_attr("short", 1)
    assert _study(journal).user_attrs == {"short": 1}
