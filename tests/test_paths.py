"""Paths that nothing can be done with: a line and a code, and nothing waits for ever."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from autotune.cli import run_command_line

_ESTIMATE = [
    "--shape",
    "E=8,topk=2,hidden=512,intermediate=256",
    "--device",
    "estimate:NVIDIA_H200",
]
_LONG = "x" * 300


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    os.mkfifo("fifo")
    return tmp_path


@pytest.mark.parametrize(
    "path", ["/dev/null", "fifo", "~nosuchuser/x", _LONG, "/dev/null/x", ":fire:"]
)
@pytest.mark.parametrize(
    "words",
    [
        ["status", "--storage", "{}"],
        ["status", "--storage", "journal:{}"],
        ["storage", "backup", "--storage", "{}", "copy.db"],
        ["run", "--dry-run", "--storage", "{}", *_ESTIMATE],
        ["run", "--dry-run", "--model", "{}", *_ESTIMATE[2:]],
        ["run", "--dry-run", "--topk-ids-dir", "{}", *_ESTIMATE],
        ["run", "--dry-run", "--warm-start", "{}/x", *_ESTIMATE],
        ["run", "--dry-run", *_ESTIMATE[:2], "--device", "replay:{}"],
        ["check", "{}", "--engine", "vllm"],
        ["convert", "{}", "--from", "vllm", "--to", "sglang"],
        ["routing-stats", "{}"],
    ],
    ids=lambda words: " ".join(word for word in words if not word.startswith("E=")),
)
def test_a_path_of_another_kind_is_a_line(
    folder: Path, words: list[str], path: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code = run_command_line([word.replace("{}", path) for word in words])
    error = capsys.readouterr().err
    if "run" not in words or code:  # a storage that is to be made is none of these
        assert code == 2
        assert error.splitlines()[-1].startswith("autotune: error: ")
    assert "🔥" not in error


@pytest.mark.skipif(sys.platform != "linux", reason="names of files are bytes there")
def test_a_folder_whose_name_is_no_text(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = os.fsdecode(b"\xff\xfe")
    Path(name).mkdir()
    for words in (["status", "--storage", f"{name}/s.db"], ["check", name, "--engine", "vllm"]):
        assert run_command_line(words) == 2
    assert r"\udcff\udcfe" in capsys.readouterr().err
