"""The command line from the outside: exit codes, stdout for results, stderr for the rest."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from small_landscape import PROBLEM, SHAPE, save_landscape  # type: ignore[import-not-found]

import autotune
from autotune.cli import run_command_line
from autotune.engines import DEFAULT_TOKENS
from autotune.spec.config import Config
from autotune.studies.storage.open import open_storage
from autotune.studies.study_record import stored_studies


def _command(*words: str) -> list[str]:
    return [sys.executable, "-m", "autotune", *words]


def _environment(cwd: Path) -> dict[str, str]:
    package = str(Path(autotune.__file__).parents[1])
    return os.environ | {"PYTHONPATH": package, "XDG_CACHE_HOME": str(cwd / "cache")}


def _autotune(cwd: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        _command(*words),
        cwd=cwd,
        env=_environment(cwd),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


Here = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Here:
    """Runs a command as ``_autotune`` does, but in this process: what is raised fails the test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        capsys.readouterr()
        code = run_command_line(words)
        return subprocess.CompletedProcess(words, code, *capsys.readouterr())

    return run


def _json(here: Here, *words: str) -> Any:
    done = here(*words, "--json")
    assert done.stdout, done.stderr
    return json.loads(done.stdout)


def _run_words(landscape: Path, *more: str) -> list[str]:
    words = ["run", "--shape", SHAPE, "--device", f"replay:{landscape}", "--batch-size", "1", "64"]
    return [*words, "--trials", "12", *more]


def test_the_main_job_and_what_looks_at_it(tmp_path: Path, here: Here, landscape: Path) -> None:
    first = _autotune(tmp_path, *_run_words(landscape))
    assert first.returncode == 0, first.stderr
    assert "wrote" in first.stdout
    assert "SGLANG_MOE_CONFIG_DIR" in first.stdout
    assert "24 new measurements" in first.stderr
    data = _json(here, *_run_words(landscape))
    [model] = data["models"]
    assert (data["new_measurements"], model["failed"], data["unfinished"]) == (0, {}, 0)

    status = _json(here, "status")["studies"]
    assert [(row["measurements"], row["state"]) for row in status] == [(12, "finished")] * 2
    best = _json(here, "best")["results"]
    assert best == model["results"]

    files = {Path(file["path"]): Path(file["path"]).read_text() for file in data["files"]}
    for path in files:
        path.unlink()
    export = here("export")
    assert export.returncode == 0, export.stderr
    assert {path: path.read_text() for path in files} == files
    for path in files:
        engine = "sglang" if "sglang" in str(path) else "vllm"
        check = json.loads(here("check", str(path), "--engine", engine, "--json").stdout)
        levels = {finding["level"] for finding in check["files"][0]["findings"]}
        assert "error" not in levels
    resume = _autotune(tmp_path, "resume")
    assert resume.returncode == 0
    assert "everything" in resume.stderr


def test_several_models_in_one_command(tmp_path: Path, here: Here) -> None:
    half = replace(PROBLEM, intermediate=PROBLEM.intermediate // 2)
    landscape = save_landscape(tmp_path / "layers.npz", layers=(PROBLEM, half))
    config = {
        "architectures": ["MixtralForCausalLM"],
        "model_type": "mixtral",
        "num_local_experts": PROBLEM.experts,
        "num_experts_per_tok": PROBLEM.top_k,
        "hidden_size": PROBLEM.hidden,
        "intermediate_size": PROBLEM.intermediate,
        "num_hidden_layers": 2,
        "torch_dtype": "bfloat16",
    }
    (tmp_path / "small").mkdir()
    (tmp_path / "small" / "config.json").write_text(json.dumps(config))
    words = ["run", "--device", f"replay:{landscape}", "--batch-size", "1", "64", "--trials", "8"]
    words += ["--model", "./small", "./small:tp-size=2", "--sampler", "random"]
    plan = _json(here, *words, "--dry-run")
    assert [row["model"] for row in plan["studies"]] == ["small"] * 2 + ["small TP2"] * 2
    assert plan["left_out"] == {}

    first = here(*words, "--model", "./nowhere")
    assert first.returncode == 1, first.stderr
    heads = [line for line in first.stdout.splitlines() if line.endswith(":")]
    assert heads == ["small:", "small TP2:"]
    assert "nothing for nowhere: --model ./nowhere" in first.stderr
    assert "32 new measurements of 2 models in" in first.stderr
    again = _json(here, *words)
    assert [model["model"] for model in again["models"]] == ["small", "small TP2"]
    assert [len(model["results"]) for model in again["models"]] == [4, 4]
    assert (again["new_measurements"], len(again["files"])) == (0, 6)
    texts = {Path(file["path"]): Path(file["path"]).read_text() for file in again["files"]}
    for path in texts:
        path.unlink()
    assert here("export").returncode == 0
    assert {path: path.read_text() for path in texts} == texts
    [more] = _json(here, "resume", "--trials", "9")["runs"]
    assert [model["model"] for model in more["models"]] == ["small TP2", "small"]
    assert more["new_measurements"] == 4


def test_bench(here: Here, landscape: Path) -> None:
    words = ["bench", "--shape", SHAPE, "--device", f"replay:{landscape}", "--batch-size", "64"]
    done = here(*words, "--configs", "32", "64", "64", "8", "4", "3", "--json")
    [row] = json.loads(done.stdout)["rows"]
    assert (row["config"], row["outcome"]) == (Config(32, 64, 64, 8, 4, 3).as_keys(), "ok")
    assert row["us"] == pytest.approx(40, rel=0.05)
    outside = here(*words, "--configs", "256", "64", "64", "8", "4", "3", "--json")
    assert outside.returncode == 1
    assert json.loads(outside.stdout)["rows"][0]["outcome"] == "infeasible"
    five = here(*words, "--configs", "256", "64", "64", "8", "4")
    assert five.returncode == 2
    assert "5 numbers" in five.stderr


def test_bench_of_two_files(tmp_path: Path, here: Here, landscape: Path) -> None:
    """The landscape's optimum against a config beside it, named twice as people do."""
    entry = {"BLOCK_SIZE_M": 32, "BLOCK_SIZE_N": 64, "BLOCK_SIZE_K": 64}
    entry |= {"GROUP_SIZE_M": 8, "num_warps": 4, "num_stages": 3}
    for name, keys in (("a", entry), ("b", entry | {"BLOCK_SIZE_K": 128})):
        (tmp_path / f"{name}.json").write_text(json.dumps({"1": keys, "64": entry}))
    words = [
        "bench",
        "--shape",
        SHAPE,
        "--device",
        f"replay:{landscape}",
        "--batch-size",
        "1",
        "64",
    ]
    data = _json(here, *words, "--config-file", "b.json", "--config-file", "a.json")
    assert [(row["file"], row["key"]) for row in data["rows"]] == [(1, 1), (2, 1), (1, 64), (2, 64)]
    assert [row["verdict"] for row in data["rows"]] == [None, "faster", None, "same config"]
    assert [row["wins"] for row in data["rows"]] == [False, True, False, False]
    assert data["rows"][1]["interval"][1] < 1
    assert data["summary"][1].startswith(
        "file 2: wins at 1 of 2 batch sizes; time over file 1: 0.9"
    )


def test_an_engines_own_kernel_needs_a_gpu(tmp_path: Path, landscape: Path) -> None:
    done = _autotune(tmp_path, *_run_words(landscape, "--provider", "sglang"))
    assert done.returncode == 2
    assert "--provider sglang with --device replay:" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_dry_run_writes_nothing(tmp_path: Path, here: Here, landscape: Path) -> None:
    done = here(*_run_words(landscape, "--dry-run", "--json"))
    plan = json.loads(done.stdout)
    assert [row["to_measure"] for row in plan["studies"]] == [12, 12]
    assert "24 measurements" in plan["summary"]
    assert [(row["engine"].split()[0], row["by_itself"]) for row in plan["serving"]] == [
        ("sglang", True),
        ("vllm", True),
    ]
    assert plan["serving"][1]["words"].endswith("serves this with Triton by itself on SM90")
    assert not (tmp_path / "autotune.db").exists()
    assert not (tmp_path / "configs").exists()


def test_models_lists_the_catalogue(here: Here) -> None:
    rows = {r["model"]: r for r in json.loads(here("models", "--json").stdout)["models"]}
    qwen = rows["Qwen/Qwen3-30B-A3B"]
    assert [qwen[k] for k in ("E", "top_k", "H", "intermediate")] == [128, 8, 2048, 768]
    assert len(here("models").stdout.splitlines()) == len(rows) + 1


def test_doctor_says_what_engines_open_and_launch(here: Here) -> None:
    words = ("--model", "Mixtral-8x7B-v0.1", "--tp-size", "2", "--engine-source", "none")
    asked = ("doctor", *words, "--device", "estimate:NVIDIA_H200", "--json")
    done = here(*asked)
    told = json.loads(done.stdout)
    assert {row["engine"] for row in told["lookups"]} == {"sglang", "vllm"}
    assert told["lookups"][0]["files"][0] == "E=8,N=7168,device_name=NVIDIA_H200.json"
    sizes = [row["batch_size"] for row in told["launches"] if row["engine"] == "vllm"]
    assert sizes == list(DEFAULT_TOKENS)
    assert all(row["config"] for row in told["launches"])


def test_doctor(tmp_path: Path, here: Here) -> None:
    done = here("doctor", "--json")
    checks = {check["what"]: check for check in json.loads(done.stdout)["checks"]}
    assert {"torch", "triton", "device", "storage", "SGLang", "vLLM"} <= set(checks)
    (tmp_path / "autotune.db").write_text("This is no database. " * 100)
    broken = here("doctor", "--json")
    assert broken.returncode == 1


def test_help_and_version(tmp_path: Path) -> None:
    assert autotune.__version__ in _autotune(tmp_path, "--version").stdout
    help_text = _autotune(tmp_path, "run", "--help").stdout
    assert "--tp-size" in help_text


BAD: list[tuple[str, list[str], str]] = [
    ("misspelt model", ["--model", "Qwen/Qwen3-30B-A3"], "Qwen/Qwen3-30B-A3B"),
    ("neither model nor shape", [], "--model"),
    ("both", ["--model", "Qwen/Qwen3-30B-A3B", "--shape", SHAPE], "--shape"),
    ("bad shape", ["--shape", "E=8,topk=2"], "hidden"),
    ("indivisible TP", ["--model", "Qwen/Qwen3-30B-A3B", "--tp-size", "7"], "7"),
    ("indivisible EP", ["--model", "Qwen/Qwen3-30B-A3B", "--ep-size", "7"], "7"),
    ("EP with TP", ["--model", "Qwen/Qwen3-30B-A3B", "--tp", "2", "--ep", "4"], "allowed are 1, 2"),
    ("two EP sizes", ["--shape", SHAPE, "--ep", "2", "--enable-expert-parallel"], "one of the two"),
    ("no TP", ["--shape", SHAPE, "--tp-size", "0"], "from 1 to 4,096"),
    ("negative batch", ["--shape", SHAPE, "--batch-size", "-4"], "--batch-size is -4"),
    ("no trials", ["--shape", SHAPE, "--trials", "0"], "--trials is 0"),
    ("long seed", ["--shape", SHAPE, "--seed", "4294967296"], "from 0 to 4,294,967,295"),
    ("endless time", ["--shape", SHAPE, "--run-timeout", "nan"], "--run-timeout is nan"),
    ("no shape", ["--shape", f"E={10**30},topk=2,hidden=512,intermediate=256"], "cannot read"),
    ("wide shape", ["--shape", "E=8,topk=2,hidden=9999999,intermediate=256"], "to 1,000,000"),
    ("steep zipf", ["--shape", SHAPE, "--routing", "zipf:1e308"], "from 0 to 100"),
    ("unknown dtype", ["--shape", SHAPE, "--dtype", "fp7"], "fp8_w8a8"),
    ("dtype the GPU lacks",
     ["--shape", SHAPE, "--dtype", "fp8_w8a8", "--device", "estimate:NVIDIA_A100-SXM4-80GB"],
     "SM89"),
    ("unknown GPU", ["--shape", SHAPE, "--device", "estimate:H999"], "H200"),
    ("unknown device", ["--shape", SHAPE, "--device", "tpu"], "replay:FILE"),
    ("missing recording", ["--shape", SHAPE, "--device", "replay:none.npz"], "none.npz"),
    ("storage folder missing", ["--shape", SHAPE, "--storage", "no/where.db"], "does not exist"),
    ("output is a file", ["--shape", SHAPE, "--output-dir", "notes.txt/configs"], "notes.txt"),
    ("output is read-only", ["--shape", SHAPE, "--output-dir", "/proc/autotune"], "/proc/autotune"),
    ("storage is no database", ["--shape", SHAPE, "--storage", "notes.txt"], "not a database"),
]  # fmt: skip


@pytest.mark.parametrize(("words", "hint"), [b[1:] for b in BAD], ids=[b[0] for b in BAD])
def test_bad_input_is_one_clear_line(
    tmp_path: Path, here: Here, words: list[str], hint: str
) -> None:
    (tmp_path / "notes.txt").write_text("This is no database. " * 100)
    done = here("run", *words)
    assert done.returncode == 2, done.stderr
    assert hint in done.stderr
    assert done.stdout == ""


def test_a_dense_model_is_refused(tmp_path: Path, here: Here) -> None:
    config = {"architectures": ["LlamaForCausalLM"], "hidden_size": 4096, "intermediate_size": 1}
    (tmp_path / "config.json").write_text(json.dumps(config))
    done = here("run", "--model", str(tmp_path))
    assert done.returncode == 2
    assert "--shape" in done.stderr


def test_a_config_file_with_wrong_keys(tmp_path: Path, here: Here) -> None:
    path = tmp_path / "E=8,N=256,device_name=NVIDIA_H200.json"
    path.write_text(json.dumps({"1": {"BLOCK_SIZE_M": 16, "TILE": 3}, "many": {}}))
    done = here("check", str(path), "--engine", "sglang")
    assert done.returncode == 1
    assert "TILE" in done.stdout
    bench = here("bench", "--shape", SHAPE, "--config-file", str(path))
    assert bench.returncode == 2


_UNWRITTEN = "autotune: error: standard output, or a file, cannot be written: No space left"


@pytest.mark.parametrize(
    ("words", "end", "said"),
    [
        ("models --json", "| true", ""),
        ("check E=8.json --engine vllm --json", "| true", ""),
        ("check E=8.json --engine vllm --json", ">&-", ""),
        ("check E=8.json --engine vllm --json", ">/dev/full", _UNWRITTEN),
        ("--version", ">/dev/full", _UNWRITTEN),
    ],
)
def test_output_that_nobody_takes(tmp_path: Path, words: str, end: str, said: str) -> None:
    (tmp_path / "E=8.json").write_text("{}")
    (tmp_path / "late.sh").write_text(f"sleep 0.2; {' '.join(_command(words))}; echo $? >code")
    done = subprocess.run(
        ["sh", "-c", f"sh late.sh {end}"],
        cwd=tmp_path,
        env=_environment(tmp_path) | {"PYTHONUNBUFFERED": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    assert (tmp_path / "code").read_text() == "1\n"
    assert done.stderr.startswith(said)
    assert done.stderr.count("\n") == (said != "")


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of half a megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=500k", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a small file system can only be mounted by root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_waited_for(
    tmp_path: Path, here: Here, landscape: Path, tiny_disk: Path
) -> None:
    words = _run_words(landscape, "--storage", str(tiny_disk / "a.db"))
    running = subprocess.Popen(
        _command(*words),
        cwd=tmp_path,
        env=_environment(tmp_path),
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    assert running.stderr is not None
    assert any("trying again: database or disk is full" in line for line in running.stderr)
    assert here("status", "--storage", str(tiny_disk / "a.db")).returncode == 0
    subprocess.run(["mount", "-o", "remount,size=9m", str(tiny_disk)], check=True)
    _, rest = running.communicate(timeout=120)
    assert running.returncode == 0, rest
    assert "Traceback" not in rest
    rows = _json(here, "status", "--storage", str(tiny_disk / "a.db"))["studies"]
    assert [row["measurements"] for row in rows] == [12, 12]


def _wait_for_trials(database: Path, count: int) -> None:
    """Look from outside, as cheaply as can be: the run itself should have the machine."""
    query = "SELECT COUNT(*) FROM trials WHERE state IN ('COMPLETE', 'PRUNED')"
    for _ in range(600):
        time.sleep(0.1)
        try:
            with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
                if connection.execute(query).fetchone()[0] >= count:
                    return
        except sqlite3.OperationalError:
            continue  # not there yet, or the schema is still being made
    pytest.fail(f"no {count} trials in a minute")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGHUP, 130)])
def test_a_signal_says_how_to_resume_and_resume_finishes(
    tmp_path: Path, here: Here, landscape: Path, number: signal.Signals, code: int
) -> None:
    words = _run_words(landscape, "--trials", "80", "--sampler", "random")
    words = [f"{w}@40ms" if w.startswith("replay:") else w for w in words]  # long enough to see
    running = subprocess.Popen(
        _command(*words),
        cwd=tmp_path,
        env=_environment(tmp_path),
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    _wait_for_trials(tmp_path / "autotune.db", 20)
    running.send_signal(number)
    stdout, stderr = running.communicate(timeout=30)
    assert running.returncode == code, stderr
    assert "finishing what runs; again to stop at once" in stderr
    assert "autotune resume" in stderr
    assert "wrote" in stdout
    before = _measured(tmp_path)
    assert 20 <= before < 160
    done = _autotune(tmp_path, "resume", "--json")
    assert done.returncode == 0, done.stderr
    [run] = json.loads(done.stdout)["runs"]
    assert run["new_measurements"] == 160 - before
    assert _measured(tmp_path) == 160
    done = here("resume", "--quiet")
    assert done.stderr == "everything in sqlite:///autotune.db is finished\n"
    more = here("resume", "--trials", "81", "--timeout", "0.01", "--quiet")
    assert more.stderr.startswith("time is up: ")
    assert here("resume", "--trials", "81", "--timeout", "60").returncode == 0
    assert _measured(tmp_path) == 162


def test_kill_9_loses_at_most_the_trial_in_flight(
    tmp_path: Path, here: Here, landscape: Path
) -> None:
    words = _run_words(landscape, "--trials", "60", "--sampler", "random")
    for goal in (5, 70):
        running = subprocess.Popen(
            _command(*words),
            cwd=tmp_path,
            env=_environment(tmp_path),
            stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        _wait_for_trials(tmp_path / "autotune.db", goal)
        running.kill()
        running.wait()
        assert _measured(tmp_path) >= goal
    done = here(*words, "--json")
    assert done.returncode == 0, done.stderr
    studies = stored_studies(open_storage(str(tmp_path / "autotune.db"), create=False))
    assert [len(study.measured) for study in studies] == [60, 60]
    states = {trial.state.name for study in studies for trial in study.trials}
    assert "RUNNING" not in states
    assert "WAITING" not in states


def _measured(folder: Path) -> int:
    storage = open_storage(str(folder / "autotune.db"), create=False)
    return sum(len(study.measured) for study in stored_studies(storage))


def test_a_settings_default_is_the_engines_eighteen(here: Here) -> None:
    done: Any = here("run", "--help").stdout
    assert "18" in done
    assert len(DEFAULT_TOKENS) == 18
