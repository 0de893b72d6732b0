"""Where the configs of a comparison come from, without measuring anything."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from autotune.engines import ENGINES, write_configs
from autotune.errors import EngineFileError
from autotune.spec.config import Config
from autotune.spec.device import Device, DeviceKind, Target
from autotune.spec.problem import Problem
from autotune.tuning.comparison.variants import ConfigSources, config_table, variants_of

H200 = Device(DeviceKind.CUDA, "NVIDIA H200", Target("cuda", 90), 232448, "3.6.0")
PROBLEM = Problem(experts=8, top_k=2, hidden=4096, intermediate=7168, tokens=64)
TUNED = Config(64, 128, 64, 8, 8, 3)


@pytest.fixture
def tuned(tmp_path: Path) -> Path:
    """An output folder with vLLM's file alone, for 32 tokens."""
    engine = ENGINES["vllm"]
    write_configs(engine, engine.path(tmp_path, PROBLEM, H200), {32: TUNED}, PROBLEM, H200)
    return tmp_path


def _configs(sources: ConfigSources, provider: str = "autotune") -> dict[str, Config | None]:
    variants = variants_of(provider, sources, H200)
    return {variant.name: variant.config_for(PROBLEM, H200) for variant in variants}


def test_our_kernels_with_tuned_default_and_given_configs(tuned: Path) -> None:
    [file] = (tuned / "vllm").iterdir()
    configs = _configs(ConfigSources(output_dir=tuned, config_files=(("mine", file),)))
    assert list(configs) == [
        "autotune, tuned for vLLM",
        "autotune, SGLang default",
        "autotune, vLLM default",
        "autotune, mine",
    ]
    assert configs["autotune, tuned for vLLM"] == TUNED == configs["autotune, mine"]
    assert configs["autotune, SGLang default"] == Config(64, 64, 32, 8, 4, 3)


def test_files_of_an_unproven_stand_in_have_a_line_of_their_own(tuned: Path) -> None:
    (tuned / "vllm").rename(tuned / "moved")
    (tuned / "stand-in").mkdir()
    (tuned / "moved").rename(tuned / "stand-in" / "vllm")
    configs = _configs(ConfigSources(output_dir=tuned))
    assert "autotune, tuned for vLLM" not in configs
    assert configs["autotune, tuned for vLLM, stand-in"] == TUNED


def test_an_engine_chooses_for_itself_and_takes_our_file(tuned: Path) -> None:
    [file] = (tuned / "vllm").iterdir()
    sources = ConfigSources(output_dir=tuned, config_files=(("mine", file),))
    assert _configs(sources, "sglang") == {"sglang": None, "sglang, mine": TUNED}
    assert _configs(sources, "torch") == {"torch": None}


def test_a_folder_without_the_layers_file_gives_no_config(tuned: Path) -> None:
    [variant, *_] = variants_of("autotune", ConfigSources(output_dir=tuned), H200)
    other = replace(PROBLEM, intermediate=1024)
    assert variant.source is not None
    assert variant.config_for(other, H200) is None


def test_on_the_cpu_a_given_file_is_all_there_is(tuned: Path) -> None:
    [file] = (tuned / "vllm").iterdir()
    variants = variants_of(
        "autotune", ConfigSources(output_dir=tuned, config_files=(("mine", file),)), None
    )
    found = {variant.name: variant.config_for(PROBLEM, None) for variant in variants}
    assert found == {
        "autotune, SGLang default": None,
        "autotune, vLLM default": None,
        "autotune, mine": TUNED,
    }


def test_an_empty_file_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    file.write_text("{}")
    with pytest.raises(EngineFileError, match="no config"):
        _configs(ConfigSources(output_dir=tmp_path, config_files=(("x", file),)), "vllm")


def test_a_file_that_is_not_there_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(EngineFileError, match="is not a file"):
        config_table(tmp_path / "none.json")
