"""``--batch-size auto:FILE``, from the file to the end of a run."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import typer
from small_landscape import PROBLEM, SHAPE, save_landscape  # type: ignore[import-not-found]

from autotune.api.batch_sizes import named_sizes
from autotune.cli import run_command_line
from autotune.commands.batch_sizes import size
from autotune.errors import UsageError


@pytest.fixture
def steps(tmp_path: Path) -> Path:
    """Three quarters of the time at one token, a quarter at about 64."""
    path = tmp_path / "steps.csv"
    path.write_text("tokens,seconds\n1,0.75\n64,0.2\n60,0.05\n")
    return path


def test_numbers_are_numbers() -> None:
    assert named_sizes([size("1"), size("64")]) == {"batch_sizes": [1, 64]}
    with pytest.raises(typer.BadParameter, match="no whole number"):
        size("auto")


def test_a_file_stands_for_its_sizes(steps: Path) -> None:
    assert named_sizes([size(f"auto:{steps}")]) == {
        "batch_sizes": (1, 64),
        "batch_weights": (0.75, 0.25),
    }
    assert named_sizes([f"auto=1:{steps}"])["batch_sizes"] == (1,)


def test_a_file_stands_alone(steps: Path) -> None:
    with pytest.raises(UsageError, match="stands alone"):
        named_sizes([8, f"auto:{steps}"])
    with pytest.raises(UsageError, match="auto=N is 0"):
        named_sizes([f"auto=0:{steps}"])


def test_a_run_over_traffic(
    steps: Path,
    landscape: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    search = "--trials 12 --sampler random --json"
    run = f"run --shape {SHAPE} --batch-size auto:{steps} --device replay:{landscape} {search}"
    assert run_command_line(run.split()) == 0
    first = json.loads(capsys.readouterr().out)
    [model] = first["models"]
    rows = {row["batch_size"]: row for row in model["results"] if row["engine"] == "vllm"}
    assert {tokens: row["share_of_time"] for tokens, row in rows.items()} == {1: 0.75, 64: 0.25}
    slower = [row["us"] / row["default_us"] for row in (rows[1], rows[64])]
    [gain] = [gain for gain in model["traffic"] if gain["engine"] == "vllm"]
    assert gain["speedup"] == pytest.approx(1 / (0.75 * slower[0] + 0.25 * slower[1]), abs=2e-3)
    assert gain["share"] == 1
    assert gain["speedup"] > 1.05

    steps.unlink()  # what was chosen is in the storage
    assert run_command_line(["resume", "--trials", "13"]) == 0
    assert f"vLLM over your traffic: {gain['speedup']:.2f}×" in capsys.readouterr().out
    assert run_command_line(["best"]) == 0
    assert "75.0%" in capsys.readouterr().out


def test_what_two_servers_ran_is_resumed_with_the_shares_of_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    half = replace(PROBLEM, intermediate=PROBLEM.intermediate // 2)
    landscape = save_landscape(tmp_path / "layers.npz", layers=(PROBLEM, half))
    monkeypatch.chdir(tmp_path)
    for tp_size, seconds in ((1, 3), (2, 1)):
        Path("steps.csv").write_text(f"tokens,seconds\n1,{seconds}\n64,1\n")
        words = f"run --shape {SHAPE} --tp-size {tp_size} --batch-size auto:steps.csv --trials 3"
        more = ["--sampler", "random", "--device", f"replay:{landscape}"]
        assert run_command_line([*words.split(), *more]) == 0
    capsys.readouterr()
    assert run_command_line(["resume", "--trials", "4", "--json"]) == 0
    [run] = json.loads(capsys.readouterr().out)["runs"]
    found = [
        {row["batch_size"]: row["share_of_time"] for row in m["results"]} for m in run["models"]
    ]
    assert sorted(map(str, found)) == ["{1: 0.5, 64: 0.5}", "{1: 0.75, 64: 0.25}"]
