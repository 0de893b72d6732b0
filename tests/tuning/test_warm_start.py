from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from autotune.engines import ENGINES
from autotune.errors import EngineFileError, UsageError
from autotune.report.terminal.run_display import PlainDisplay
from autotune.settings import ModelSettings, RunSettings, settings_from
from autotune.spec.config import Config, ConfigPair
from autotune.spec.device import Device, DeviceKind, Target
from autotune.spec.problem import Dtype, KernelMode, Problem
from autotune.studies.storage.open import open_storage
from autotune.studies.study_record import stored_studies
from autotune.tuning.session import run
from autotune.tuning.warm_start import file_configs, shipped_config

PROBLEM = Problem(experts=128, top_k=8, hidden=2048, intermediate=768, tokens=60)
H200 = Device(DeviceKind.CUDA, "NVIDIA H200", Target("cuda", 90), 232448, "3.6.0")
BOTH = tuple(ENGINES.values())
NAME = "E=128,N=768,device_name=NVIDIA_H200.json"


def entry(block_m: int, **more: object) -> dict[str, object]:
    config = Config(block_m, 64, 128, 1, 4, 3)
    return {**config.as_keys(), **more}


def write(path: Path, body: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(body))
    return path


def blocks(paths: list[Path], problem: Problem = PROBLEM) -> list[int]:
    found = [config for config, _ in file_configs(problem, H200, BOTH, paths)]
    return [c.block_size_m for c in found if isinstance(c, Config)]


def test_a_file_of_any_name_gives_its_nearest_entry(tmp_path: Path) -> None:
    body = {"triton_version": "3.5.0", "16": entry(16), "64": entry(32), "256": entry(64)}
    file = write(tmp_path / "mine.json", body)
    (found,) = file_configs(PROBLEM, H200, BOTH, [file])
    assert found[0] == Config(32, 64, 128, 1, 4, 3)
    assert "mine.json" in found[1]


def test_a_folder_gives_the_files_for_the_problem_newest_triton_after_its_own(
    tmp_path: Path,
) -> None:
    configs = tmp_path / "sglang" / "configs"
    for version, block in (("3_4_0", 16), ("3_6_0", 32), ("3_7_1", 64), ("3_10_0", 128)):
        write(configs / f"triton_{version}" / NAME, {"64": entry(block)})
    write(configs / "triton_3_6_0" / NAME.replace("N=768", "N=384"), {"64": entry(256)})
    write(configs / "triton_3_6_0" / NAME.replace(".json", ",dtype=fp8_w8a8.json"), {"64": {}})
    write(configs / "triton_3_6_0" / NAME.replace("H200", "H100"), {"64": entry(256)})
    assert blocks([tmp_path]) == [32, 128, 64, 16]


def test_another_device_is_better_than_nothing(tmp_path: Path) -> None:
    write(tmp_path / NAME.replace("H200", "H100_80GB_HBM3"), {"64": entry(64)})
    assert blocks([tmp_path]) == [64]


def test_vllms_names_and_block_scales_are_understood(tmp_path: Path) -> None:
    fp8 = replace(PROBLEM, dtype=Dtype.FP8_W8A8, block_shape=(128, 128))
    parts = ",dtype=fp8_w8a8,block_shape=[128,128].json"
    write(tmp_path / NAME.replace(".json", parts), {"64": entry(64, BLOCK_SIZE_K=256)})
    found = {config for config, _ in file_configs(fp8, H200, (ENGINES["vllm"],), [tmp_path])}
    assert found == {Config(64, 64, 128, 1, 4, 3)}  # BLOCK_SIZE_K as vLLM clamps it


def test_separate_kernels_take_the_down_file_too(tmp_path: Path) -> None:
    write(tmp_path / NAME, {"64": entry(64)})
    write(tmp_path / NAME.replace(".json", "_down.json"), {"64": entry(64, USE_TMA=True)})
    problem = replace(PROBLEM, kernel=KernelMode.SEPARATE)
    (found,) = (
        config for config, _ in file_configs(problem, H200, (ENGINES["sglang"],), [tmp_path])
    )
    assert isinstance(found, ConfigPair)
    assert (found.up.use_tma, found.down.use_tma) == (False, True)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{not json", "not JSON"),
        ("[1]", "holds a JSON list"),
        ('{"64": {"BLOCK_SIZE_M": 16}}', "64 tokens.*missing"),
        (json.dumps({"64": entry(16, SPEED=11)}), "64 tokens.*SPEED"),
        (json.dumps({"64": entry(16), "many": entry(16)}), "'many'"),
        (json.dumps({"64": entry(17)}), "power of two"),
    ],
)
def test_what_is_no_engine_file_is_an_error(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / NAME
    path.write_text(text)
    with pytest.raises(EngineFileError, match=complaint):
        list(file_configs(PROBLEM, H200, BOTH, [path]))
    with pytest.raises(EngineFileError, match=complaint):
        list(file_configs(PROBLEM, H200, BOTH, [tmp_path]))


def test_a_folder_without_engine_files_is_an_error(tmp_path: Path) -> None:
    write(tmp_path / "package.json", {})
    with pytest.raises(EngineFileError, match="no engine file"):
        list(file_configs(PROBLEM, H200, BOTH, [tmp_path]))


def test_a_folder_for_other_problems_is_passed_over_with_a_word(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path / NAME.replace("N=768", "N=384"), {"64": entry(64)})
    with caplog.at_level(logging.WARNING):
        assert blocks([tmp_path]) == blocks([tmp_path], replace(PROBLEM, tokens=1)) == []
    assert caplog.text.count("it has neither") == 1
    assert NAME in caplog.text
    assert "topk=" not in caplog.text


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """vLLM's folder of shipped configs, in a package of that name with nothing else in it."""
    package = tmp_path / "site" / "vllm"
    folder = package / "model_executor" / "layers" / "fused_moe" / "configs"
    folder.mkdir(parents=True)
    (package / "__init__.py").write_text("raise ImportError('never imported')")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    return folder


def test_what_an_installed_engine_would_load_is_a_rival(installed: Path) -> None:
    write(installed / NAME, {"64": entry(32)})
    assert shipped_config(ENGINES["vllm"], PROBLEM, H200) == Config(32, 64, 128, 1, 4, 3)
    assert shipped_config(ENGINES["sglang"], PROBLEM, H200) is None
    assert blocks([]) == [32]


@pytest.mark.parametrize("value", [1, 2])
def test_launch_options_do_not_drop_a_rival_but_are_named(
    installed: Path, caplog: pytest.LogCaptureFixture, value: int
) -> None:
    """Triton's own ``num_ctas`` is 1: then nothing is left out."""
    write(installed / NAME, {"64": {**entry(32), "num_ctas": value}})
    assert shipped_config(ENGINES["vllm"], PROBLEM, H200) == Config(32, 64, 128, 1, 4, 3)
    assert blocks([]) == [32]
    assert ("tried without num_ctas 2" in caplog.text) == (value == 2)


def test_a_shipped_file_of_another_device_is_a_hint_and_no_rival(installed: Path) -> None:
    write(installed / NAME.replace("H200", "H20"), {"64": entry(32)})
    assert shipped_config(ENGINES["vllm"], PROBLEM, H200) is None
    assert blocks([]) == [32]


def test_a_broken_shipped_file_ends_nothing(installed: Path) -> None:
    write(installed / NAME, {"64": entry(17)})
    assert shipped_config(ENGINES["vllm"], PROBLEM, H200) is None
    assert blocks([]) == []


def test_a_run_measures_warm_starts_first_and_keeps_them_in_its_settings(
    settings: Callable[..., RunSettings], database: str, tmp_path: Path
) -> None:
    file = write(tmp_path / "mine.json", {"64": Config(32, 128, 32, 8, 4, 3).as_keys()})
    model = settings().model
    wanted = settings(
        model=ModelSettings(shape=model.shape, batch_sizes=(64,)), warm_starts=(file,)
    )
    run(wanted, database, PlainDisplay())
    (study,) = stored_studies(open_storage(database, create=False))
    sources = [str(trial.user_attrs.get("source", "")) for trial in study.trials]
    number = next(n for n, source in enumerate(sources) if "mine.json" in source)
    assert number <= 2
    assert study.trials[number].params["BLOCK_SIZE_N"] == 128
    assert settings_from(RunSettings, study.attrs.settings) == wanted


def test_settings_of_before_have_no_warm_starts(settings: Callable[..., RunSettings]) -> None:
    data = settings().as_json()
    del data["warm_starts"]
    assert settings_from(RunSettings, data) == settings()


def test_a_path_that_is_not_there_is_refused() -> None:
    from autotune.commands.flags import TuningFlags, run_settings

    flags = TuningFlags(
        models=("Qwen/Qwen3-30B-A3B",),
        device="estimate:NVIDIA_H200",
        warm_starts=(Path("nowhere.json"),),
    )
    with pytest.raises(UsageError, match="nowhere"):
        run_settings(flags)
