"""Every command with ``--json``: one document, which keeps to its published schema exactly, with
absolute paths; also where it does not work."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from copy import deepcopy
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from checked_json import SCHEMAS, checked  # type: ignore[import-not-found]
from small_landscape import SHAPE, save_landscape  # type: ignore[import-not-found]

from autotune.cli import run_command_line
from autotune.commands import dashboard, models
from autotune.errors import AutotuneError, StorageError, StorageLostError, UsageError
from autotune.routing import capture
from autotune.routing.trace import LayerRows, RoutingTrace
from autotune.routing.trace_files import write_trace

LOGS = Path(__file__).with_name("server_logs")
LAYER = ["--shape", SHAPE, "--batch-size", "1", "64"]


def _said(name: str, *words: str, code: int = 0) -> Any:
    """Run a command; return its document, of the schema of this name."""
    text = io.StringIO()
    with redirect_stdout(text):
        assert run_command_line([*words, "--json"]) == code
    return checked(text.getvalue(), name)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The current folder of a user who keeps a landscape there."""
    folder = tmp_path_factory.mktemp("user")
    save_landscape(folder / "small.npz")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        patch.setenv("COLUMNS", "80")
        yield folder


@pytest.fixture(scope="module")
def tuned(folder: Path) -> Any:
    """What ``run`` said of one model."""
    return _said("run", *_run_words())


def _run_words(*more: str) -> list[str]:
    words = ["run", *LAYER, "--device", "replay:small.npz", "--trials", "8"]
    return [*words, "--sampler", "random", *more]


def test_a_schema_is_what_the_strict_one_tightens(tuned: Any) -> None:
    unsaid = deepcopy(tuned)
    unsaid["models"][0]["results"][0]["unsaid"] = 1
    with pytest.raises(jsonschema.ValidationError, match="unsaid"):
        checked(json.dumps(unsaid), "run")
    relative = deepcopy(tuned)
    relative["files"][0]["path"] = "configs/a.json"
    with pytest.raises(jsonschema.ValidationError, match="is not a 'path'"):
        checked(json.dumps(relative), "run")


def test_a_time_line_is_for_gpus(tuned: Any) -> None:
    assert tuned["time_line"] == {}
    assert tuned["new_measurements"] > 0


def test_rows_are_the_same_wherever_they_are(tuned: Any) -> None:
    [model] = tuned["models"]
    assert [row["model"] for row in model["results"]] == [SHAPE] * 4
    assert _said("best", "best")["results"] == model["results"]
    export = _said("export", "export")
    assert (export["files"], export["results"]) == (tuned["files"], model["results"])
    assert _said("report", "report")["results"] == model["results"]


def test_several_models_have_the_shape_of_one(tuned: Any, folder: Path) -> None:
    shape = dict(part.split("=") for part in SHAPE.split(","))
    config = {
        "architectures": ["MixtralForCausalLM"],
        "model_type": "mixtral",
        "num_local_experts": int(shape["E"]),
        "num_experts_per_tok": int(shape["topk"]),
        "hidden_size": int(shape["hidden"]),
        "intermediate_size": int(shape["intermediate"]),
        "num_hidden_layers": 2,
        "torch_dtype": "bfloat16",
    }
    (folder / "tiny").mkdir()
    (folder / "tiny" / "config.json").write_text(json.dumps(config))
    words = ["run", "--model", "./tiny", "./nowhere", "--storage", "several.db", "--trials", "2"]
    words += ["--batch-size", "1", "--device", "replay:small.npz", "--output-dir", "several"]
    words += ["--sampler", "random"]
    found = _said("run", *words, code=1)
    assert [model["model"] for model in found["models"]] == ["tiny"]
    assert list(found["left_out"]) == ["nowhere"]
    assert found["models"][0].keys() == tuned["models"][0].keys()
    results = found["models"][0]["results"]
    assert _said("best", "best", "--storage", "several.db")["results"] == results
    assert list(_said("dry-run", *words, "--dry-run", code=1)["left_out"]) == ["nowhere"]


def test_dry_run(tuned: Any) -> None:
    plan = _said("dry-run", *_run_words("--dry-run"))
    assert [study["to_measure"] for study in plan["studies"]] == [0, 0]
    assert plan["studies"][0]["engines"] == ["sglang", "vllm"]


def test_resume(tuned: Any) -> None:
    assert _said("resume", "resume")["runs"] == []
    _said("run", *_run_words("--storage", "more.db", "--output-dir", "more"))
    [run] = _said("resume", "resume", "--storage", "more.db", "--trials", "9")["runs"]
    assert (run["schema"], run["new_measurements"]) == ("autotune/run/1", 2)


def test_status(tuned: Any) -> None:
    rows = _said("status", "status")["studies"]
    assert {row["batch_size"]: row["state"] for row in rows} == {1: "finished", 64: "finished"}


def test_a_watch_has_a_document_a_line(tuned: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = list[float]()

    def sleep(seconds: float) -> None:
        seen.append(seconds)
        if len(seen) % 3 == 0:
            raise KeyboardInterrupt

    monkeypatch.setattr("autotune.commands.look.time.sleep", sleep)
    for command in ("status", "best"):
        text = io.StringIO()
        with redirect_stdout(text):
            assert run_command_line([command, "--watch", "1", "--json"]) == 0
        assert len([checked(line, command) for line in text.getvalue().splitlines()]) == 3


def test_check_and_convert(tuned: Any) -> None:
    path = next(file["path"] for file in tuned["files"] if "vllm" in file["path"])
    [file] = _said("check", "check", path, "--engine", "vllm")["files"]
    assert (file["path"], file["engine"]) == (path, "vllm")
    words = ["--from", "vllm", "--to", "sglang", "--triton-version", "3.6.0"]
    found = _said("convert", "convert", path, *words, "--output", "converted")
    assert Path(found["path"]).exists()
    assert list(found["env"]) == ["SGLANG_MOE_CONFIG_DIR"]


def test_bench(folder: Path) -> None:
    words = ["bench", *LAYER, "--device", "replay:small.npz"]
    found = _said("bench", *words, "--configs", "32", "64", "64", "8", "4", "3")
    assert [row["config"]["BLOCK_SIZE_M"] for row in found["rows"]] == [32, 32]
    found = _said("bench", *words, "--configs", "256", "64", "64", "8", "4", "3", code=1)
    assert [(row["us"], row["outcome"]) for row in found["rows"]] == [(None, "infeasible")] * 2


def test_bench_under_several_routings(folder: Path) -> None:
    save_landscape(folder / "two.npz", ("uniform,zipf:1.2",))
    words = ["--device", "replay:two.npz", "--routing", "uniform,zipf:1.2"]
    found = _said("bench", "bench", *LAYER, *words, "--configs", "32", "64", "64", "8", "4", "3")
    assert [list(row["routing_us"]) for row in found["rows"]] == [["uniform", "zipf:1.2"]] * 2


def test_bench_of_files(folder: Path) -> None:
    keys = {"BLOCK_SIZE_M": 32, "BLOCK_SIZE_N": 64, "BLOCK_SIZE_K": 64, "GROUP_SIZE_M": 8}
    keys |= {"num_warps": 4, "num_stages": 3}
    for name, config in (("a", keys), ("b", keys | {"BLOCK_SIZE_K": 128})):
        (folder / f"{name}.json").write_text(json.dumps({"1": config, "64": keys}))
    words = ["bench", *LAYER, "--device", "replay:small.npz", "--config-file", "b.json", "a.json"]
    found = _said("bench-files", *words)
    assert [(row["file"], row["wins"]) for row in found["rows"][:2]] == [(1, False), (2, True)]


def test_compare(folder: Path) -> None:
    words = ["compare", "--shape", "E=4,topk=2,hidden=64,intermediate=32", "--device", "cpu"]
    found = _said("compare", *words, "--batch-size", "3", "--provider", "torch", "vllm")
    assert [(row["line"], row["config"]) for row in found["rows"]] == [("torch", None)]
    assert found["device"] == "cpu"
    assert "vllm" in found["skipped"]


def test_record(folder: Path) -> None:
    words = ["record", "--shape", SHAPE, "--batch-size", "16", "--device", "estimate:NVIDIA_H200"]
    words += ["--limit", "1", "--output", "recorded.npz", "--jobs", "1", "--engine", "vllm"]
    [study] = _said("record", *words)["studies"]
    assert study["best"]["BLOCK_SIZE_M"] > 0


def test_doctor(folder: Path) -> None:
    assert _said("doctor", "doctor", "--device", "estimate:NVIDIA_H200")["lookups"] == []
    words = ["--model", "Qwen/Qwen3-30B-A3B", "--device", "estimate:NVIDIA_H200"]
    found = _said("doctor", "doctor", *words, "--batch-size", "16")
    assert [row["engine"] for row in found["launches"]] == ["sglang", "vllm"]


@pytest.mark.parametrize("log", ["bf16_tuned", "fp8"])
def test_a_servers_log(folder: Path, log: str) -> None:
    """What others say, test_doctor_log.py checks likewise."""
    path = LOGS / f"vllm_0_33_0_{log}.txt"
    [server] = _said("server-log", "doctor", "--server-log", str(path))["servers"]
    assert server["all_opened"]


def test_a_log_that_says_nothing(folder: Path) -> None:
    (folder / "empty.log").write_text("nothing\n")
    assert _said("server-log", "doctor", "--server-log", "empty.log", code=1)["servers"] == []


def test_models(folder: Path) -> None:
    assert len(_said("models", "models")["models"]) > 10


def test_the_dashboard(tuned: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dashboard._Server, "serve_forever", lambda _: None)
    assert _said("dashboard", "dashboard", "--port", "0")["url"].startswith("http://127.0.0.1:")


def test_storage(tuned: Any) -> None:
    assert {row["state"] for row in _said("storage-check", "storage", "check")["checks"]} == {"ok"}
    assert Path(_said("storage-backup", "storage", "backup", "copy.db")["backup"]).exists()
    assert _said("storage-upgrade", "storage", "upgrade", "--storage", "copy.db")["version"]


def _recording() -> RoutingTrace:
    rng = np.random.default_rng(0)
    ids = np.stack([rng.permutation(8)[:2] for _ in range(64)])
    rows = LayerRows(ids.astype(np.int32), np.zeros(64, np.int32))
    return RoutingTrace({0: rows, 1: rows}, "test")


def test_capture_routing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capture, "capture", lambda *_, **__: _recording())
    words = ["capture-routing", "--model", "m", "--output-dir", "captured", "--tokens", "64"]
    assert _said("capture-routing", *words)["layers"] == [0, 1]


@pytest.mark.parametrize("ranks", [1, 2])
def test_routing_stats(folder: Path, ranks: int) -> None:
    write_trace(_recording(), folder / f"ids{ranks}")
    words = ["routing-stats", f"ids{ranks}", "--batch-size", "4", "--ep-size", str(ranks)]
    found = _said("routing-stats", *words)
    assert [row["slowest_rank"] is None for row in found["layers"]] == [ranks == 1] * 2
    assert list(found["padding"][0]["factors"]) == ["16", "32", "64", "128", "256"]


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        ("statsu", "usage"),
        ("run --jsn", "usage"),
        ("run --trials many", "usage"),
        ("run --batch-size 0", "usage"),
        ("run --model ./nowhere", "model"),
        ("run --model deepseek-ai/DeepSeek-V3 --tp-size 32 --engine sglang", "not_served"),
        (f"run --shape {SHAPE} --device estimate:nothing", "device"),
        (f"run --shape {SHAPE} --device replay:small.npz --provider vllm", "usage"),
        ("check ./nowhere.json --engine vllm", "engine_file"),
        ("status --storage nowhere.db", "storage_missing"),
        ("status --storage small.npz", "storage"),
        ("report --output-dir small.npz", "usage"),
    ],
)
def test_an_error_is_a_document_too(
    tuned: Any, capsys: pytest.CaptureFixture[str], words: str, kind: str
) -> None:
    found = _said("error", *words.split(), code=2)
    assert (found["kind"], found["exit_code"]) == (kind, 2)
    assert found["message"] in " ".join(capsys.readouterr().err.split())


def test_an_errors_password_is_nobodys_business(capsys: pytest.CaptureFixture[str]) -> None:
    url = "postgresql://tuner:sesame@127.0.0.1:1/moe"
    message = _said("error", "status", "--storage", url, code=2)["message"]
    assert "tuner:***@" in message
    assert "sesame" not in message


@pytest.mark.parametrize(
    ("error", "kind", "code"),
    [
        (KeyboardInterrupt(), "interrupted", 130),
        (KeyboardInterrupt("it goes on"), "interrupted", 130),
        (OSError(28, "No space left on device"), "file", 1),
        (PermissionError(13, "Permission denied", "a.db"), "file", 2),
        (StorageLostError("it is gone"), "storage_lost", 1),
    ],
)
def test_what_happens_in_the_middle_of_the_work(
    monkeypatch: pytest.MonkeyPatch, error: BaseException, kind: str, code: int
) -> None:
    def fails() -> None:
        raise error

    monkeypatch.setattr(models, "catalogue_shapes", fails)
    found = _said("error", "models", code=code)
    assert (found["kind"], found["exit_code"]) == (kind, code)
    if kind == "interrupted":
        assert found["message"] == "; ".join(["interrupted", *error.args])


def test_an_error_ends_a_watch_with_a_line(tuned: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_: float) -> None:
        raise StorageLostError("it is gone")

    monkeypatch.setattr("autotune.commands.look.time.sleep", fails)
    text = io.StringIO()
    with redirect_stdout(text):
        assert run_command_line(["status", "--watch", "--json"]) == 1
    first, last = text.getvalue().splitlines()
    checked(first, "status")
    assert checked(last, "error")["message"] == "it is gone"


def test_without_json_an_error_leaves_stdout_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command_line(["statsu"]) == 2
    assert capsys.readouterr().out == ""


def test_kinds_tell_errors_apart() -> None:
    found = [AutotuneError, *AutotuneError.__subclasses__(), *StorageError.__subclasses__()]
    kinds = [error.kind for error in found if error is not UsageError]
    assert len(set(kinds)) == len(kinds)


@pytest.mark.parametrize("word", ["statsu", "status"])
def test_an_error_whose_reader_has_gone_is_no_bug(tmp_path: Path, word: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "autotune", word, "--json"]
    environment = os.environ | {"PYTHONPATH": str(SCHEMAS.parents[1])}
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env=environment,
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writer)
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
