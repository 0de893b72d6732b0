"""What Python callers call: the same as the commands do, in a process of theirs."""

from __future__ import annotations

import ast
import inspect
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any, get_args

import pytest
from small_landscape import SHAPE  # type: ignore[import-not-found]

import autotune
from autotune.api.calls import DtypeName
from autotune.cli import run_command_line
from autotune.commands.run import Flags
from autotune.settings import ModelSettings, RunSettings
from autotune.spec.problem import Dtype

_ELSEWHERE = {"storage", "ray_address", "progress"}
"""Keywords of ``tune`` that are no settings."""
_LEFT_OPEN = {"routing", "device", "cache_dir", "jobs"}
"""Keywords that are filled in, as the flags of these names are."""
Tune = Callable[..., autotune.Result]


@pytest.fixture
def tune(landscape: Path) -> Tune:
    return partial(
        autotune.tune,
        shape=SHAPE,
        device=f"replay:{landscape}",
        batch_sizes=(1, 64),
        trials=6,
        sampler="random",
    )


def test_its_keywords_are_the_settings_with_their_defaults() -> None:
    parameters = inspect.signature(autotune.tune).parameters
    keywords = {name: each.default for name, each in parameters.items()}
    settings = {each.name: each.default for each in (*fields(ModelSettings), *fields(RunSettings))}
    del settings["more_models"]
    assert keywords.keys() - _ELSEWHERE == settings.keys()
    for name in settings.keys() - _LEFT_OPEN - {"model"}:
        assert keywords[name] == settings[name], name


def test_its_keywords_are_the_flags_with_their_defaults() -> None:
    parameters = inspect.signature(autotune.tune).parameters
    flags = {each.name: each.default for each in fields(Flags)}
    assert parameters.keys() - flags.keys() == {"model", "engines", "batch_weights", "progress"}
    ways_to_say_another = {"enable_expert_parallel", "data_parallel_size", "launcher"}
    assert flags.keys() - parameters.keys() - ways_to_say_another == {"models", "engine", "dry_run"}
    said_otherwise = {"ep_size", "routing", "gpus", "storage", "ray_address"}
    for name in (parameters.keys() & flags.keys()) - said_otherwise:
        assert parameters[name].default == flags[name], name


def test_it_gives_the_document_of_the_command(
    tune: Tune, landscape: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["run", "--shape", SHAPE, "--device", f"replay:{landscape}", "--batch-size", "1", "64"]
    words += ["--trials", "6", "--sampler", "random", "--storage", "other.db", "--json", "--quiet"]
    assert run_command_line(words) == 0
    theirs = json.loads(capsys.readouterr().out)
    shutil.rmtree("configs")  # both tell what was there before
    assert _without_times(tune().as_json()) == _without_times(theirs)


def _without_times(document: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in document.items() if k not in ("seconds", "device_time", "time_line")}


def test_it_prints_nothing(tune: Tune, capfd: pytest.CaptureFixture[str]) -> None:
    tune(storage="quiet.db")
    assert capfd.readouterr() == ("", "")


def test_the_same_call_goes_on(tune: Tune) -> None:
    few = tune()
    more = tune(trials=8)
    assert (few.document.new_measurements, more.document.new_measurements) == (12, 4)
    assert Path("autotune.db").exists()
    assert {file.path.parents[-1] for file in more.files}


def test_progress_is_told_as_trials_end(tune: Tune) -> None:
    told: list[autotune.Progress] = []
    tune(progress=told.append)
    last = told[-1]
    assert [each.measured for each in told] == sorted(each.measured for each in told)
    assert (last.studies, last.finished, last.measured, last.target) == (2, 2, 12, 12)
    assert {each.batch_size for each in told} == {1, 64}
    assert all(each.best_us <= each.us for each in told if each.best_us and each.us)
    assert sum(each.outcome == "ok" for each in told) >= 2
    assert [each.config is None for each in told if each.batch_size == 64][-1]  # its end
    assert told[0].config is not None
    assert told[0].config.keys() >= {"BLOCK_SIZE_M", "num_warps"}


def test_a_daemon_process_is_told_that_it_cannot_tune(tune: Tune) -> None:
    with (
        multiprocessing.get_context("spawn").Pool(1) as pool,
        pytest.raises(autotune.AutotuneError, match="refuses to a daemon process"),
    ):
        pool.apply(tune)


def test_what_progress_raises_ends_the_run_and_all_is_stored(tune: Tune) -> None:
    told: list[autotune.Progress] = []

    def enough(progress: autotune.Progress) -> None:
        told.append(progress)
        if len(told) == 3:
            raise LookupError("enough")

    with pytest.raises(LookupError, match="enough"):
        tune(progress=enough)
    stored = autotune.load()
    assert 3 <= sum(study.measurements for study in stored.studies) < 12 or stored.unfinished
    assert tune().unfinished == 0


def test_several_models_have_tables_of_their_own(tune: Tune) -> None:
    models = [
        autotune.ModelSettings(shape=SHAPE, batch_sizes=(1,)),
        autotune.ModelSettings(shape=SHAPE, batch_sizes=(64,), dtype="bf16"),
    ]
    device = tune.keywords["device"]  # type: ignore[attr-defined]
    result = autotune.tune(models, device=device, trials=4, sampler="random")
    assert [row.batch_size for row in result.results] == [1, 1, 64, 64]
    assert len(result.document.models) == 2
    assert result.failed == {}
    with pytest.raises(autotune.AutotuneError, match="tp_size=2 beside model=ModelSettings"):
        autotune.tune(models, tp_size=2, device=device)


def test_a_model_that_cannot_be_tuned_beside_others_is_told(tune: Tune) -> None:
    other = SHAPE.replace("hidden=512", "hidden=1024")
    device = tune.keywords["device"]  # type: ignore[attr-defined]
    models = [autotune.ModelSettings(shape=shape, batch_sizes=(1,)) for shape in (SHAPE, other)]
    result = autotune.tune(models, device=device, trials=2, sampler="random")
    assert list(result.failed) == list(result.left_out) == [other]
    assert f"nothing for {other}: {result.left_out[other]}" in str(result).splitlines()
    assert [row.H for row in result.results] == [512, 512]


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"kernel": "both"}, "kernel='both': give fused or separate"),
        ({"engines": "vlm"}, "engines='vlm': give sglang or vllm"),
        ({"engines": ("vllm", "trt")}, "engines='trt'"),
        ({"sampler": "best"}, "sampler='best'"),
        ({"batch_sizes": "64"}, "batch"),
        ({"batch_sizes": ()}, "--batch-size needs at least one"),
        ({"batch_sizes": 16}, r"batch_sizes=16: give several, as \[16, 64\]"),
        ({"shape": {"E": 8}}, 'in words, as shape="E=8,topk=2,hidden=4096,intermediate=14336"'),
        ({"trials": 0}, "--trials is 0"),
        ({"device": "tpu"}, "no device 'tpu'"),
        ({"warm_starts": ["nowhere.json"]}, "nowhere.json: there is no such file"),
        ({"model": []}, "name one model at least"),
        ({"model": "a", "shape": SHAPE}, "either --model NAME or --shape"),
        ({"storage": "mysql://there/db"}, "MySQL"),
    ],
)
def test_what_cannot_work_is_said(tune: Tune, asked: dict[str, Any], words: str) -> None:
    with pytest.raises(autotune.AutotuneError, match=words):
        tune(**asked)
    assert not Path("autotune.db").exists()


def test_it_tunes_in_another_thread(tune: Tune) -> None:
    results: list[autotune.Result] = []
    thread = threading.Thread(target=lambda: results.append(tune()))
    thread.start()
    thread.join(240)
    assert [result.unfinished for result in results] == [0]


def test_a_storage_is_read_and_exported(tune: Tune, tmp_path: Path) -> None:
    result = tune(storage="sqlite:///here.db", timeout_s=600)
    stored = autotune.load("here.db")
    assert stored.results == result.results
    assert [study.state for study in stored.studies] == ["finished", "finished"]
    assert autotune.load(Path("here.db"), model=stored.results[0].model).results == stored.results
    files = stored.export(tmp_path / "there")
    assert [file.path.name for file in files] == [file.path.name for file in result.files]
    assert all(file.path.is_relative_to(tmp_path / "there") for file in files)
    with pytest.raises(autotune.AutotuneError, match="no studies for --model other"):
        autotune.load("here.db", model="other")


def test_a_storage_that_is_not_there_is_said(
    landscape: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUTOTUNE_STORAGE", "sqlite:///named.db")
    with pytest.raises(autotune.AutotuneError, match=r"named\.db; start .* autotune\.tune"):
        autotune.load()


def test_a_file_is_checked(tune: Tune) -> None:
    file = next(file for file in tune(engines="vllm").files)
    assert autotune.check(str(file.path), engine="vllm").ok
    broken = file.path.with_name(file.path.name.replace("E=8", "F=8"))
    broken.write_text("{}")
    assert not autotune.check(broken, engine="vllm").ok
    with pytest.raises(autotune.AutotuneError, match="is not a file"):
        autotune.check("nowhere.json", engine="vllm")
    with pytest.raises(autotune.AutotuneError, match="give sglang or vllm"):
        autotune.check(file.path, engine="trt")


_SCRIPT = """
import os
os.write(1, b"runs\\n")
import autotune
result = autotune.tune(shape={shape!r}, device={device!r}, batch_sizes=[64], trials={trials},
                       sampler="random", stop_gain=0{more})
print(len(result.results), "results", result.unfinished)
"""


def _script(landscape: Path, trials: int = 4, pace: str = "", more: str = "") -> str:
    device = f"replay:{landscape}{pace}"
    return _SCRIPT.format(shape=SHAPE, device=device, trials=trials, more=more)


def _start(*words: str) -> subprocess.Popen[str]:
    root = str(Path(autotune.__file__).parents[1])
    return subprocess.Popen(
        [sys.executable, *words],
        env=os.environ | {"PYTHONPATH": root},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("kind", ["a script without a guard", "-c", "stdin"])
def test_no_guard_is_needed(landscape: Path, kind: str) -> None:
    code = _script(landscape)
    Path("script.py").write_text(code)
    words = {"a script without a guard": ["script.py"], "-c": ["-c", code], "stdin": ["-"]}[kind]
    process = subprocess.Popen(
        [sys.executable, *words],
        env=os.environ | {"PYTHONPATH": str(Path(autotune.__file__).parents[1])},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    out, err = process.communicate(code, timeout=240)
    assert (out, err) == ("runs\n2 results 0\n", "")


@pytest.mark.parametrize("presses", [1, 2])
def test_ctrl_c_raises_once_all_is_stored(landscape: Path, presses: int) -> None:
    told = ", progress=lambda told: os.write(1, b'told\\n')"
    process = _start("-c", _script(landscape, trials=150, pace="@100ms", more=told))
    assert process.stdout is not None
    assert [process.stdout.readline() for _ in range(3)] == ["runs\n", "told\n", "told\n"]
    for _ in range(presses):
        process.send_signal(signal.SIGINT)
        time.sleep(0.05)
    out, err = process.communicate(timeout=240)
    assert "results" not in out
    assert process.returncode != 0
    assert "finishing what runs" in err.splitlines()[0]
    assert err.splitlines()[-1].startswith("KeyboardInterrupt: ")
    assert "the same call goes on" in err.splitlines()[-1]
    if presses == 1:
        assert "1 study is not finished" in err
        stored = autotune.load()
        assert stored.unfinished == 1
        assert stored.studies[0].measurements >= 2
        assert list(Path("configs").rglob("*.json"))


def test_ctrl_c_before_the_search_says_that_the_call_goes_on(
    tune: Tune, monkeypatch: pytest.MonkeyPatch
) -> None:
    def press(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("autotune.api.calls.run_tuning", press)
    with pytest.raises(KeyboardInterrupt, match="the same call goes on"):
        tune()


def test_what_time_cut_off_says_so(tune: Tune, landscape: Path) -> None:
    result = tune(device=f"replay:{landscape}@100ms", trials=150, stop_gain=0, timeout_s=1)
    assert result.unfinished == 2
    assert result.notes[-1].startswith("time is up: 2 studies are not finished. ")
    assert result.notes[-1] in str(result).splitlines()
    stored = autotune.load()
    assert stored.unfinished == 2
    assert str(stored).splitlines()[-1].startswith("2 studies are not finished: ")


def test_importing_it_brings_neither_optuna_nor_torch() -> None:
    code = (
        "import sys, autotune\n"
        "heavy = {'optuna', 'torch', 'triton', 'numpy', 'rich'} & set(sys.modules)\n"
        "print(sorted(heavy), 'tune' in dir(autotune), autotune.AutotuneError.__name__)\n"
        "try:\n"
        "    autotune.tuna\n"
        "except AttributeError as error:\n"
        "    print(error)\n"
    )
    out, _ = _start("-c", code).communicate(timeout=240)
    assert out.splitlines() == [
        "[] True AutotuneError",
        "module 'autotune' has no attribute 'tuna'",
    ]


def test_every_name_is_there_and_nothing_else_is_offered() -> None:
    for name in autotune.__all__:
        assert getattr(autotune, name).__name__ == name
    assert dir(autotune) == sorted([*autotune.__all__, "__version__"])


def test_checkers_are_not_told_that_any_name_is_there() -> None:
    tree = ast.parse(Path(autotune.__file__).read_text())
    functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    assert "__dir__" in functions
    assert "__getattr__" not in functions


def test_the_words_of_dtype_are_its_values() -> None:
    assert get_args(DtypeName) == ("auto", *(each.value for each in Dtype))


def test_settings_of_a_model_take_any_list_of_sizes() -> None:
    one = autotune.ModelSettings(model="m", batch_sizes=[1, 64])
    assert one == autotune.ModelSettings(model="m", batch_sizes=(1, 64))
    assert {one}
    with pytest.raises(autotune.AutotuneError, match="batch_sizes=64: give several"):
        autotune.ModelSettings(model="m", batch_sizes=64)  # type: ignore[arg-type]
