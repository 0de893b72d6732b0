"""``compare`` from the outside, on the CPU at small size, engines by their stand-ins."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import autotune
from autotune.cli import run_command_line

ROOT = Path(autotune.__file__).parents[1]
PROVIDER_TESTS = Path(__file__).parents[1] / "backends" / "gpu" / "providers"
SHAPE = "E=4,topk=2,hidden=64,intermediate=32"


def _words(*more: str) -> list[str]:
    return ["compare", "--shape", SHAPE, "--device", "cpu", *more]


def _compare(cwd: Path, *words: str, paths: tuple[Path, ...] = ()) -> tuple[int, Any, str]:
    path = os.pathsep.join(map(str, (ROOT, PROVIDER_TESTS, *paths)))
    done = subprocess.run(
        [sys.executable, "-m", "autotune", *_words(*words), "--json"],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    return done.returncode, json.loads(done.stdout) if done.stdout else None, done.stderr


@pytest.fixture
def engines(tmp_path: Path) -> tuple[Path, ...]:
    sys.path.insert(0, str(PROVIDER_TESTS))
    try:
        from standins import write_engine  # type: ignore[import-not-found]
    finally:
        sys.path.remove(str(PROVIDER_TESTS))
    versions = (("sglang", "0.5.23"), ("vllm", "0.20.0"))
    return tuple(write_engine(tmp_path / name, name, version) for name, version in versions)


def test_all_providers_where_no_engine_is_installed(tmp_path: Path) -> None:
    code, data, stderr = _compare(tmp_path, "--batch-size", "3")
    assert code == 0, stderr
    lines = ["torch", "torch-grouped", "torch-compile"]
    timed = [row for row in data["rows"] if row["provider"] != "autotune"]
    assert [(row["batch_size"], row["line"]) for row in timed] == [(3, line) for line in lines]
    for row in timed:
        assert row["right"] is True
        assert 0 < row["us_low"] <= row["us"] <= row["us_high"]
        assert "CPU" in row["how"]
        assert row["version"].startswith("torch 2.")
    assert "pip install 'sglang" in data["skipped"]["sglang"]
    assert "need a GPU" in data["skipped"]["autotune, SGLang default"]
    assert "left out: vllm: vLLM is not installed: pip install" in stderr
    assert "say nothing of any GPU" in stderr
    folder = tmp_path / "configs/benchmark_ops/fused_moe"
    assert {Path(path).name for path in data["files"]} == {path.name for path in folder.iterdir()}
    with (folder / "fused-moe-performance.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["batch_size"] for row in rows] == ["3"]
    assert float(rows[0]["torch"]) * 1000 == pytest.approx(timed[0]["us"], rel=0.01)
    page = (folder / "fused-moe-performance.html").read_text()
    assert "these times say nothing of any GPU" in page
    assert page.count("data:image/svg+xml") == 2


def test_engines_with_our_file_and_without(tmp_path: Path, engines: tuple[Path, ...]) -> None:
    file = tmp_path / "mine.json"
    file.write_text(
        '{"8": {"BLOCK_SIZE_M": 16, "BLOCK_SIZE_N": 32, "BLOCK_SIZE_K": 32, "GROUP_SIZE_M": 1}}'
    )
    words = ("--provider", "sglang", "vllm", "--batch-size", "2", "--config-file", f"ours:{file}")
    code, data, stderr = _compare(tmp_path, *words, paths=engines)
    assert code == 1, stderr  # vLLM is of a version that nobody looked at
    assert [row["line"] for row in data["rows"]] == ["sglang", "sglang, ours"]
    written = json.loads(file.read_text())["8"]
    assert [row["config"] for row in data["rows"]] == [
        None,
        written | {"num_warps": 4, "num_stages": 3},
    ]
    assert all(row["right"] for row in data["rows"])
    assert data["versions"] == {"sglang": "sglang 0.5.23"}
    assert "vLLM 0.20.0 is installed; versions from 0.32" in data["skipped"]["vllm"]


def test_an_engine_whose_import_fails_or_dies_is_left_out(
    tmp_path: Path, engines: tuple[Path, ...]
) -> None:
    sglang, vllm = engines
    (sglang / "sglang/srt/server_args.py").write_text(
        "import warnings\nprint('to stdout')\nwarnings.warn('performance might be sub-optimal')\n"
        "raise TypeError('unhashable type')\n"
    )
    [info] = vllm.glob("vllm-*.dist-info/METADATA")
    info.write_text(info.read_text().replace("0.20.0", "0.33.0"))
    (vllm / "vllm/config.py").write_text(
        "import os\nos.write(2, b'terminate called\\n')\nos.abort()\n"
    )
    words = ("--provider", "sglang", "vllm", "torch", "--batch-size", "2")
    code, data, stderr = _compare(tmp_path, *words, paths=engines)
    assert code == 1, stderr
    assert [row["line"] for row in data["rows"]] == ["torch"]  # nothing else is on stdout
    assert data["skipped"] == {
        "sglang": "sglang cannot be used: TypeError: unhashable type",
        "vllm": "vllm cannot be used: the process died (signal SIGABRT)",
    }
    assert "what it printed last:\nterminate called" in stderr
    assert "sub-optimal" not in stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--provider", "sglang"), "none of sglang can be used"),
        (("--config-file", "none.json"), "none.json is not a file"),
        (("--device", "tpu"), "allowed are auto, cuda, cuda:INDEX and cpu"),
    ],
)
def test_bad_input(words: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command_line(_words("--batch-size", "1", *words)) == 2
    assert said in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_is_said_before_anything_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("autotune.commands.compare.compare", lambda settings: pytest.fail("late"))
    (tmp_path / "file").touch()
    assert run_command_line(_words("--save-path", str(tmp_path / "file"))) == 2
    assert f"--save-path {tmp_path / 'file'} cannot be written: File exists" in (
        capsys.readouterr().err
    )
