"""``bench`` on an engine's kernel, which a real child process stands in for."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from fakes import FINE, OWN, open_engine  # type: ignore[import-not-found]

from autotune import settings as settings_module
from autotune.backends.selectors import open_measurer
from autotune.cli import run_command_line
from autotune.engines import ENGINES
from autotune.errors import UsageError
from autotune.settings import ModelSettings, RunSettings
from autotune.spec.config import Config, ConfigPair, config_from_keys
from autotune.spec.problem import Problem
from autotune.tuning.comparison import bench as bench_module
from autotune.tuning.comparison.bench import bench, bench_files, measured_provider
from autotune.tuning.comparison.config_files import FileVerdict, totals
from autotune.tuning.comparison.variants import config_table
from autotune.tuning.jobs import Job

SHAPE = "E=8,topk=2,hidden=256,intermediate=128"
FAST, SLOW = Config(16, 32, 64, 1, 4, FINE), Config(16, 32, 64, 40, 4, FINE)


@pytest.fixture(autouse=True)
def _installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """vLLM is there, and SGLang is not."""
    monkeypatch.setattr(bench_module, "open_measurer", open_engine)

    def chosen(wanted: str, engines: tuple[str, ...], *, on_gpu: bool) -> dict[str, str]:
        own = {"vllm": "vllm"} if wanted == "auto" else {}
        return {engine: own.get(engine, "autotune") for engine in engines}

    monkeypatch.setattr(settings_module, "chosen_providers", chosen)


def _settings(*sizes: int) -> RunSettings:
    model = ModelSettings(shape=SHAPE, batch_sizes=sizes)
    return RunSettings(model=model, device="cuda", engines=("vllm",))


def _file(folder: Path, name: str, table: dict[int, Config]) -> Path:
    path = folder / name
    path.write_text(json.dumps({tokens: config.as_keys() for tokens, config in table.items()}))
    return path


def test_files_are_compared_with_what_the_engine_launches_by_itself(tmp_path: Path) -> None:
    mixed = _file(tmp_path, "mixed.json", {1: FAST, 64: OWN, 1024: SLOW})
    fast = _file(tmp_path, "fast.json", {1: FAST})
    _, sizes = bench_files(_settings(1, 64, 1024), [mixed, fast])
    assert {size.entries[0].source for size in sizes} == {"vLLM by itself"}
    assert {size.entries[0].config for size in sizes} == {OWN}
    verdicts = [size.entries[1].verdict for size in sizes]
    assert verdicts == [FileVerdict.FASTER, FileVerdict.SAME, FileVerdict.SLOWER]
    own, of_mixed, of_fast = totals(sizes)
    assert (own.mean, own.wins) == (None, 0)
    gain, loss = 101 / 120, 140 / 120  # the fake's times
    assert of_mixed.mean == pytest.approx((gain * loss) ** (1 / 3), rel=0.003)
    assert of_mixed.mean_apart == pytest.approx((gain * loss) ** (1 / 2), rel=0.003)
    assert of_mixed.most == pytest.approx(loss, rel=0.003)
    assert of_fast.most == pytest.approx(gain, rel=0.003)
    assert (of_mixed.wins, of_fast.wins) == (1, 2)  # both have what is fastest at 1 token


def test_one_baseline_or_none(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """At 4096 tokens the engine launches no config."""
    fast = _file(tmp_path, "fast.json", {1: FAST})
    _, sizes = bench_files(_settings(1, 4096), [fast])
    assert [len(size.entries) for size in sizes] == [1, 1]
    assert "vLLM launches by itself at 4096 tokens" in caplog.text


def test_without_configs_the_engine_launches_by_itself() -> None:
    _, rows = bench(_settings(1), [], [])
    assert [(row.source, row.config) for row in rows] == [("vllm own", OWN)]
    assert rows[0].result.measurement is not None  # though its space lacks it


def test_its_file_may_say_what_no_space_has(tmp_path: Path) -> None:
    other = replace(OWN, group_size_m=3)
    _, rows = bench(_settings(1), [other, FAST], [])
    assert [row.result.outcome.value for row in rows] == ["infeasible", "ok"]


def test_engines_on_different_kernels_are_one_too_many() -> None:
    both = replace(_settings(1), engines=("sglang", "vllm"))
    with pytest.raises(UsageError, match="--engine vllm, or measure ours: --provider autotune"):
        measured_provider(both)
    assert measured_provider(replace(both, provider="autotune")) == "autotune"


def test_the_command_names_the_baseline(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fast = _file(tmp_path, "fast.json", {1: FAST})
    words = ["bench", "--shape", SHAPE, "--batch-size", "1", "--device", "cuda", "--json"]
    assert run_command_line([*words, "--engine", "vllm", "--config-file", str(fast)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["baseline"] == "vLLM by itself"
    assert [(row["file"], row["source"]) for row in found["rows"]] == [
        (None, "vLLM by itself"),
        (1, str(fast)),
    ]
    assert found["totals"][1]["most"] == pytest.approx(101 / 120, rel=0.003)
    assert found["rows"][1]["interval"][1] < 1
    assert "time over vLLM by itself" in found["summary"][1]


def test_the_down_file_beside_a_file_counts_for_the_engine_that_reads_it(tmp_path: Path) -> None:
    path, down = tmp_path / "E=8.json", tmp_path / "E=8_down.json"
    keys = Config(16, 64, 64, 1, 4, 3).as_keys()
    path.write_text(json.dumps({"64": keys}))
    down.write_text(json.dumps({"64": keys | {"num_warps": 8}}))
    problem, device = Problem(8, 2, 512, 256, 64), open_engine("cuda", None).device
    found = {
        name: bench_module._given(path, config_table(path), Job(problem, (ENGINES[name],)), device)
        for name in ENGINES
    }
    pair = found["sglang"].config
    assert isinstance(pair, ConfigPair)
    assert (pair.up.num_warps, pair.down.num_warps) == (4, 8)
    assert isinstance(found["vllm"].config, Config)


@pytest.mark.parametrize("kernel", ["fused", "separate"])
def test_one_file_is_timed_with_its_down_file(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    kernel: str,
) -> None:
    """On our kernel, where one file has no rival; and the command says what became of it."""
    monkeypatch.setattr(bench_module, "open_measurer", open_measurer)
    up = Config(16, 32, 64, 1, 4, 3)
    path = _file(tmp_path, "E=8.json", {64: up})
    _file(tmp_path, "E=8_down.json", {64: replace(up, num_warps=8)})
    words = ["bench", "--shape", SHAPE, "--batch-size", "64", "--device", "estimate:h200"]
    words += ["--kernel", kernel, "--json", "--config-file", str(path)]
    words += ["--cache-dir", str(tmp_path)]
    assert run_command_line([*words, "--engine", "sglang"]) == 0
    told = capsys.readouterr()
    assert "up 16x32x64 G1 w4 s3, down 16x32x64 G1 w8 s3" in [
        str(config_from_keys(row["config"])) for row in json.loads(told.out)["rows"]
    ]
    assert "E=8_down.json: read too, for the down GEMM, as SGLang does" in told.err
    if kernel == "fused":
        assert run_command_line([*words, "--engine", "vllm"]) == 0
        told = capsys.readouterr()
        assert json.loads(told.out)["rows"][0]["config"] == up.as_keys()
        assert "E=8_down.json: not read, as vLLM does not" in told.err


def test_a_slow_config_of_a_users_file_is_timed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """SGLang ships eight warps on 32x32 for MI300X, which a search leaves out as too slow."""
    monkeypatch.setattr(bench_module, "open_measurer", open_measurer)
    path = _file(tmp_path, "E=8.json", {64: Config(32, 32, 128, 1, 8, 2, 0, 16, 1)})
    words = ["bench", "--shape", SHAPE, "--batch-size", "64", "--device", "estimate:mi300x"]
    words += ["--cache-dir", str(tmp_path), "--engine", "sglang", "--config-file", str(path)]
    assert run_command_line([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"][0]["outcome"] == "ok"


def test_flags_of_a_search_are_not_offered(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command_line(["bench", "--help"]) == 0
    offered = capsys.readouterr().out
    for flag in ("--trials", "--sampler", "--warm-start", "--storage", "--output-dir", "--gpus"):
        assert flag not in offered
    assert "--config-file" in offered
