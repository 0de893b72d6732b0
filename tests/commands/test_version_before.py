"""Storages that the version before (45c63bd) wrote: read as before, and gone on with.

``version_before/`` holds what it made of ``recording.npz``, which it made too: ``storage.sql``, the
dump of a SQLite file, after ``run --batch-size 1 64 --trials 10``, and ``storage.journal`` after
the same with ``--batch-size 64 --sampler random``. In both, a killed worker left the study of 64
tokens with one trial in work and another one queued. @FOLDER@ stands for the folder of the run.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import FrozenTrial, TrialState

from autotune.cli import run_command_line
from autotune.studies.storage.open import close_storage, open_storage
from autotune.studies.study_record import stored_studies

_DATA = Path(__file__).with_name("version_before")
_SHAPE = "E=8,topk=2,hidden=512,intermediate=256"
_BEST = {
    "BLOCK_SIZE_M": 32,
    "BLOCK_SIZE_N": 64,
    "BLOCK_SIZE_K": 64,
    "GROUP_SIZE_M": 8,
    "num_warps": 4,
    "num_stages": 3,
}
_BEST_US = {1: 20.31, 64: 40.03}
_FILES = {
    "replayed/sglang/configs/triton_3_9_0/E=8,N=256,device_name=small.json": {},
    "replayed/vllm/E=8,N=256,device_name=small.json": {"triton_version": "3.9.0"},
}
Command = Callable[..., Any]


@pytest.fixture(params=["sqlite", "journal"])
def storage(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The old storage, in a folder of the test's own that also has the recording."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "old.npz").write_bytes((_DATA / "recording.npz").read_bytes())
    name = "storage.sql" if request.param == "sqlite" else "storage.journal"
    text = (_DATA / name).read_text().replace("@FOLDER@", str(tmp_path))
    if request.param == "journal":
        (tmp_path / "old.journal").write_text(text)
        return "journal:old.journal"
    with closing(sqlite3.connect(tmp_path / "old.db")) as connection:
        connection.executescript(text)
    return "old.db"


@pytest.fixture
def command(storage: str, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs a command on the old storage; gives its JSON."""

    def done(*words: str) -> Any:
        code = run_command_line([*words, "--storage", storage, "--json"])
        out, err = capsys.readouterr()
        assert code == 0, err
        return json.loads(out)

    return done


def _sizes(storage: str) -> list[int]:
    return [64] if storage.startswith("journal:") else [1, 64]


def _trials(storage: str) -> dict[int, list[FrozenTrial]]:
    """Batch size → trials of its study."""
    opened = open_storage(storage, create=False)
    found = {s.key.problem.tokens: list(s.trials) for s in stored_studies(opened)}
    close_storage(opened)
    return found


def test_it_is_shown_as_before(storage: str, command: Command) -> None:
    rows = command("status")["studies"]
    assert [(row["measurements"], row["state"]) for row in rows] == [(10, "finished")] * len(rows)
    best = command("best")["results"]
    assert [r["batch_size"] for r in best] == [m for m in _sizes(storage) for _ in range(2)]
    for result in best:
        assert result["config"] == _BEST
        assert result["us"] == _BEST_US[result["batch_size"]]
    command("export", "--output-dir", "exported")
    for name, head in _FILES.items():
        content = json.loads(Path("exported", name).read_text())
        assert content.items() >= head.items()
        assert [int(m) for m, config in content.items() if config == _BEST] == _sizes(storage)
    assert "error" not in {check["state"] for check in command("storage", "check")["checks"]}


def test_a_run_goes_on_and_measures_nothing_anew(storage: str, command: Command) -> None:
    sizes = list(map(str, _sizes(storage)))
    words = ["run", "--shape", _SHAPE, "--device", "replay:old.npz", "--batch-size", *sizes]
    before = _trials(storage)
    assert command(*words, "--trials", "12")["new_measurements"] == 2 * len(sizes)
    assert command(*words, "--trials", "12")["new_measurements"] == 0
    after = _trials(storage)
    assert before.keys() == after.keys()
    for size, trials in before.items():
        ended = [trial for trial in trials if trial.state.is_finished()]
        assert len(ended) == 10
        assert after[size][: len(ended)] == ended  # untouched
        measured = [trial for trial in after[size] if trial.value is not None]
        assert len(measured) == len({tuple(trial.params.items()) for trial in measured}) == 12
    left, queued = before[64][10:]
    assert after[64][left.number].state == TrialState.FAIL
    new = [trial.params for trial in after[64] if trial.value is not None][10:]
    assert left.params in new
    assert queued.system_attrs["fixed_params"] in new
