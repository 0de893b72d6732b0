"""Settings as they are stored in a study, and read again by ``resume``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from autotune.errors import UsageError
from autotune.settings import ModelSettings, RecordSettings, RunSettings, settings_from
from autotune.spec.problem import KernelMode
from autotune.studies.selection.select import Robust

STORED: dict[str, Any] = {
    "model": {
        "model": "Qwen/Qwen3-30B-A3B",
        "shape": None,
        "tp_size": 2,
        "ep_size": 1,
        "ep_rank": None,
        "ep_num_redundant_experts": 0,
        "dtype": "fp8_w8a8",
        "per_channel_quant": False,
        "disable_shared_experts_fusion": False,
        "batch_sizes": [1, 64],
        "routing": "uniform,zipf:1",
        "topk_ids_dir": None,
        "engine_sources": [],
    },
    "device": "estimate:NVIDIA_H200",
    "kernel": "separate",
    "provider": "autotune",
    "l2": "cold",
    "trials": 60,
    "timeout_s": 12.5,
    "run_timeout_s": 120.0,
    "sampler": "surrogate",
    "stop_gain": 0.005,
    "robust": "worst",
    "engines": ["sglang"],
    "output_dir": "/data/configs",
    "warm_starts": ["/data/old.json"],
    "cache_dir": "/data/cache",
    "jobs": 8,
    "gpus": "all",
    "compile_jobs": None,
    "compile_timeout_s": 60.0,
    "seed": 0,
}
"""The JSON that version 45c63bd stored."""


def test_settings_that_the_version_before_stored_are_read_and_stored_alike() -> None:
    settings = settings_from(RunSettings, STORED)
    assert settings.model.batch_sizes == (1, 64)
    assert settings.kernel is KernelMode.SEPARATE
    assert settings.robust is Robust.WORST
    assert settings.engines == ("sglang",)
    assert settings.warm_starts == (Path("/data/old.json"),)
    assert (settings.output_dir, settings.cache_dir) == (Path("/data/configs"), Path("/data/cache"))
    assert (settings.timeout_s, settings.compile_jobs) == (12.5, None)
    assert json.loads(json.dumps(settings.as_json())) == STORED


def test_shares_of_time_are_stored_one_for_each_batch_size() -> None:
    stored = {**STORED, "model": {**STORED["model"], "batch_weights": [0.75, 0.25]}}
    settings = settings_from(RunSettings, stored)
    assert settings.model.shares == {1: 0.75, 64: 0.25}
    assert settings.as_json() == stored
    for wrong in ([1.0], [0.5, 1.5], [0.5, "a"]):
        with pytest.raises(UsageError):
            settings_from(ModelSettings, {**stored["model"], "batch_weights": wrong})


def test_fields_that_were_not_stored_take_their_defaults() -> None:
    few = {"model": {"model": "Qwen/Qwen3-30B-A3B"}, "device": "cuda"}
    model = ModelSettings(model="Qwen/Qwen3-30B-A3B")
    assert settings_from(RunSettings, few) == RunSettings(model=model, device="cuda")


@pytest.mark.parametrize(
    "newer",
    [{**STORED, "clock": 1}, {**STORED, "model": {**STORED["model"], "clock": 1}}],
    ids=["of the run", "of the model"],
)
def test_a_newer_versions_settings_are_refused(newer: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="unknown fields: clock"):
        settings_from(RunSettings, newer)


def test_an_engines_own_kernel_takes_pairs_where_the_engine_reads_two_files() -> None:
    model, kernel = ModelSettings(model="Qwen/Qwen3-30B-A3B"), KernelMode.SEPARATE

    def settings(engine: str) -> RunSettings:
        return RunSettings(
            model=model, device="cuda", kernel=kernel, provider=engine, engines=(engine,)
        )

    assert settings("sglang").measurer_options.provider == "sglang"
    with pytest.raises(UsageError, match="--provider vllm with --kernel separate: vLLM launches"):
        settings("vllm")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("seed", 2**32),
        ("seed", None),
        ("run_timeout_s", float("nan")),
        ("compile_timeout_s", -1),
        ("trials", "60"),
        ("jobs", 10**9),
        ("stop_gain", 1.0),
    ],
)
def test_numbers_out_of_range_are_refused_whoever_gives_them(name: str, value: object) -> None:
    with pytest.raises(UsageError, match=" number from "):
        settings_from(RunSettings, STORED | {name: value})


@pytest.mark.parametrize("kind", [RunSettings, RecordSettings])
def test_what_all_that_measures_refuses(kind: type[RunSettings]) -> None:
    with pytest.raises(UsageError, match="--timeout is 0"):
        kind(model=ModelSettings(model="Qwen/Qwen3-30B-A3B"), device="cuda", timeout_s=0)
