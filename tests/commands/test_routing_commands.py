"""Routing from the command line: recorded, several at once, statistics."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_landscape import SHAPE, save_landscape  # type: ignore[import-not-found]

from autotune.api.asked import named_routing
from autotune.cli import run_command_line
from autotune.commands.capture_routing import texts_of
from autotune.errors import UsageError
from autotune.routing import trace as recording_file
from autotune.routing.trace import LayerRows, RoutingTrace
from autotune.routing.trace_files import COMPACT, read_trace, write_trace
from autotune.settings import RunSettings, settings_from
from autotune.studies.selection.select import Robust, ranked
from autotune.studies.storage.open import open_storage
from autotune.studies.study_record import stored_studies
from autotune.tuning.stored_results import stored_results


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    """Two layers of 8 experts, top-k 2; half of the rows visit experts 6 and 7."""
    rng = np.random.default_rng(0)
    ids = np.stack([rng.permutation(8)[:2] for _ in range(120)]).astype(np.int32)
    ids[::2] = [6, 7]
    rows = LayerRows(ids, (np.arange(120) // 30).astype(np.int32))
    write_trace(RoutingTrace({0: rows, 1: rows}, "test"), tmp_path / "ids")
    return tmp_path / "ids"


def _json(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> Any:
    capsys.readouterr()
    assert run_command_line([*words, "--json"]) == code
    return json.loads(capsys.readouterr().out)


@pytest.fixture
def run_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.chdir(tmp_path)
    sizes = ["--shape", "E=8,topk=2,hidden=256,intermediate=128", "--batch-size", "16"]
    device = ["--device", "estimate:NVIDIA_H200", "--jobs", "1", "--cache-dir", "cache"]
    return ["run", *sizes, *device, "--engine", "sglang", "--trials", "2", "--sampler", "random"]


def test_separate_kernels_on_recorded_routing_with_expert_parallelism(
    run_words: list[str], recorded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*run_words, "--kernel", "separate", "--ep-size", "2", "--topk-ids-dir", str(recorded)]
    first = _json(capsys, *words)
    assert first["new_measurements"] == 2
    names = [Path(file["path"]).name for file in first["files"]]
    assert sorted(names) == [
        "E=4,N=128,device_name=NVIDIA_H200.json",
        "E=4,N=128,device_name=NVIDIA_H200_down.json",
    ]
    [study] = stored_studies(open_storage("autotune.db", create=False))
    problem = study.key.problem
    assert problem.routing.startswith("recorded:")
    assert (problem.ep_size, problem.ep_rank) == (2, 1)  # the rank of experts 6 and 7

    moved = recorded.rename(tmp_path / "moved")  # elsewhere it is the same recording
    words[-1] = str(moved)
    assert _json(capsys, *words)["new_measurements"] == 0

    (moved / COMPACT).unlink()  # without the sequences it is another one
    assert _json(capsys, *words)["new_measurements"] == 2
    assert len(stored_studies(open_storage("autotune.db", create=False))) == 2


def test_resume_wants_the_same_recording(
    landscape: Path,
    recorded: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    save_landscape(landscape, (read_trace(recorded).routing,))
    words = ["run", "--shape", SHAPE, "--device", f"replay:{landscape}", "--batch-size", "1"]
    words += ["--topk-ids-dir", str(recorded), "--sampler", "random", "--trials", "6"]
    assert run_command_line([*words, "--timeout", "0.001"]) in (0, 1)  # few are measured
    monkeypatch.setattr(recording_file, "_known", {})  # as in another process
    (recorded / COMPACT).unlink()
    capsys.readouterr()
    assert run_command_line(["resume"]) == 2
    assert "Bring that recording back" in capsys.readouterr().err.replace("\n", " ")


def test_bench_shows_the_time_under_each_routing(
    run_words: list[str], recorded: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = run_words[1 : run_words.index("--trials")]
    given = [word for word in given if word not in ("--jobs", "1")]
    words = ["bench", *given, "--configs", "16", "32", "64", "1", "4", "3"]
    words += ["--routing", "worst,recorded", "--topk-ids-dir", str(recorded)]
    [row] = _json(capsys, *words)["rows"]
    worst, recorded_us = row["routing_us"].values()
    assert [name.partition(":")[0] for name in row["routing_us"]] == ["worst", "recorded"]
    assert row["us"] == pytest.approx((worst * recorded_us) ** 0.5, rel=1e-3)
    capsys.readouterr()
    assert run_command_line(words) == 0
    assert "worst" in capsys.readouterr().out


def test_routing_stats(
    recorded: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["routing-stats", str(recorded), "--ep-size", "2", "--batch-size", "1", "64"]
    data = _json(capsys, *words)
    assert (data["experts"], data["top_k"]) == (8, 2)
    assert [row["layer"] for row in data["layers"]] == [0, 1]
    assert {row["slowest_rank"] for row in data["layers"]} == {1}
    assert len(data["padding"]) == 4
    assert Path("routing-stats.png").read_bytes().startswith(b"\x89PNG")
    assert run_command_line([*words, "--model", "mistralai/Mixtral-8x7B-v0.1"]) == 0
    assert run_command_line([*words, "--model", "Qwen/Qwen3-30B-A3B"]) == 2
    assert run_command_line([*words, "--plot", str(tmp_path / "no" / "plot.png")]) == 2
    for name, start in (("a.pdf", b"%PDF"), ("a.SVG", b"<?xml"), ("a.png", b"\x89PNG")):
        assert run_command_line([*words, "--plot", name]) == 0
        assert Path(name).read_bytes().startswith(start)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--batch-size", "-4"], "--batch-size is -4"),
        (["--batch-size", "8", "0"], "--batch-size is 0"),
        (["--plot", "a.jpg"], "should end in .png, .svg, .pdf"),
        (["--plot", "a"], "should end in .png"),
    ],
)
def test_flags_of_routing_stats_that_cannot_be(
    words: list[str], said: str, recorded: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command_line(["routing-stats", str(recorded), *words]) == 2
    assert said in capsys.readouterr().err


def test_what_routing_flags_mean(recorded: Path) -> None:
    assert named_routing(None, None) == "uniform"
    assert named_routing("zipf:1.2,worst", None) == "zipf:1.2,worst"
    digest = named_routing(None, recorded)
    assert digest.startswith("recorded:")
    assert named_routing("uniform,recorded", recorded) == f"uniform,{digest}"
    assert named_routing(digest, recorded) == digest
    assert named_routing("zipf:1.0,zipf:1.5", None) == "zipf:1,zipf:1.5"


@pytest.mark.parametrize(
    ("routing", "has_folder", "words"),
    [
        ("recorded", False, "needs --topk-ids-dir"),
        ("uniform", True, "Try --routing uniform,recorded"),
        ("uniform,uniform", False, "uniform is there twice"),
        ("zipf:1,zipf:1.0", False, "zipf:1 is there twice"),
        ("recorded:0123456789ab", False, "needs --topk-ids-dir"),
        ("recorded:0123456789ab", True, r"holds recorded:\w+, not recorded:0123456789ab"),
    ],
)
def test_flags_that_contradict_each_other(
    routing: str, has_folder: bool, words: str, recorded: Path
) -> None:
    with pytest.raises(UsageError, match=words):
        named_routing(routing, recorded if has_folder else None)


@pytest.mark.parametrize(
    "routing", ["dirichlet:0", "grouped:3:1", "grouped:8:9", "grouped:8:1.5", "grouped:8:1"]
)
def test_a_dry_run_refuses_what_a_run_does(
    routing: str, run_words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """8 experts, top-k 2: one group of one expert holds too few."""
    assert run_command_line([*run_words, "--routing", routing, "--dry-run"]) == 2
    assert f"routing '{routing}'" in capsys.readouterr().err
    record = ["record", *run_words[1 : run_words.index("--trials")], "--output", "a.npz"]
    assert run_command_line([*record, "--routing", routing]) == 2
    assert not list(Path().glob("*.npz"))


def test_an_unknown_routing_is_an_error_before_anything_runs(
    run_words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command_line([*run_words, "--routing", "zipf"]) == 2
    assert "write zipf:A" in capsys.readouterr().err


def test_the_worst_loss_is_over_several_routings(
    run_words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command_line([*run_words, "--robust", "worst"]) == 2
    assert "Name them, as --routing uniform,zipf:1" in capsys.readouterr().err
    words = [*run_words, "--robust", "worst", "--routing", "uniform,worst", "--trials", "8"]
    first = _json(capsys, *words)
    assert first["new_measurements"] == 8
    [study] = stored_studies(open_storage("autotune.db", create=False))
    assert settings_from(RunSettings, study.attrs.settings).robust is Robust.WORST
    [result] = stored_results(study)
    assert result.robust is Robust.WORST
    assert result.config.as_keys() == first["models"][0]["results"][0]["config"]
    least = ranked([e for e in study.measured if e.complete], 2, Robust.WORST)[0].config
    assert result.config in (least, *(known.config for known in result.incumbents))
    capsys.readouterr()
    assert run_command_line(["best"]) == 0
    assert "(by its worst routing)" in capsys.readouterr().out


WRONG: list[tuple[str, str, str]] = [
    ("a.txt", "\n", "is empty"),
    ("a.jsonl", '{"question": "?"}', '"prompt" or "text"'),
    ("a.jsonl", "{", '"prompt" or "text"'),
]


@pytest.mark.parametrize(("name", "content", "words"), WRONG)
def test_prompts_that_cannot_be_read(name: str, content: str, words: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(UsageError, match=words):
        texts_of(tmp_path / name)
    with pytest.raises(UsageError, match="cannot be read"):
        texts_of(tmp_path / "missing")


def test_prompts_in_every_form(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\n\ntwo\n")
    (tmp_path / "a.jsonl").write_text('"one"\n{"prompt": "two"}\n{"text": "three"}\n')
    assert texts_of(tmp_path / "a.txt") == ["one", "two"]
    assert texts_of(tmp_path / "a.jsonl") == ["one", "two", "three"]
    assert sum(map(len, texts_of(None))) > 100_000
