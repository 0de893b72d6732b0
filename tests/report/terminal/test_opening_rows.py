"""Lines and rows of which files engines look for."""

from __future__ import annotations

import json
from copy import copy
from pathlib import Path

import pytest

from autotune.engines import ENGINES, Engine
from autotune.report.terminal.opening_rows import launch_rows, launch_words, lookup_rows, written_to
from autotune.spec.config import Config
from autotune.spec.device import Device, DeviceKind, Target
from autotune.spec.problem import Dtype, Problem

H200 = Device(DeviceKind.CUDA, "NVIDIA H200", Target("cuda", 90), 232448, "3.6.0")
PROBLEM = Problem(experts=8, top_k=2, hidden=4096, intermediate=7168, tokens=64, dtype=Dtype.BF16)
SGLANG, VLLM = ENGINES["sglang"], ENGINES["vllm"]
SMALL = Config(16, 64, 128, 1, 4, 4)
NAME = "E=8,N=7168,device_name=NVIDIA_H200.json"


@pytest.fixture(autouse=True)
def nothing_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Engine, "package_folder", lambda _: None)


def _put(folder: Path, text: str = "") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / NAME).write_text(text or json.dumps({"64": SMALL.as_keys()}))


def test_a_line_for_each_engine_names_files_and_folders(tmp_path: Path) -> None:
    env_folder = written_to(tmp_path)
    asked = [(engine, PROBLEM, H200) for engine in (SGLANG, VLLM) for _ in range(2)]
    sglang, vllm = lookup_rows(asked, env_folder)
    folder = env_folder(VLLM, PROBLEM, H200)
    assert vllm.words == (
        f"vLLM (rules of {VLLM.version}; not installed here) looks for {NAME} in {folder} "
        "(VLLM_TUNED_CONFIG_FOLDER: the file is not written yet)"
    )
    assert sglang.files == (NAME, NAME.replace(".json", "_down.json"))
    assert sglang.folders[0].folder == tmp_path / "sglang/configs/triton_3_6_0"


def test_the_engines_own_code_that_was_asked_is_said(tmp_path: Path) -> None:
    (unasked,) = lookup_rows([(VLLM, PROBLEM, H200)], written_to(tmp_path))
    assert unasked.own_code is None
    assert "own code" not in unasked.words
    asked = copy(VLLM)
    asked.own_code = "0.33.0, in /w/vllm.whl"
    (row,) = lookup_rows([(asked, PROBLEM, H200)], written_to(tmp_path))
    assert row.own_code == "0.33.0, in /w/vllm.whl"
    assert row.words == (
        f"{unasked.words}; vLLM's own code (0.33.0, in /w/vllm.whl) makes the same name"
    )
    asked.own_names = ("E=8,{device}.json",)
    (row,) = lookup_rows([(asked, PROBLEM, H200)], written_to(tmp_path))
    assert row.words.endswith("makes this name, where our rules differ")


def test_a_file_that_is_there_is_said_and_so_is_one_for_another_triton(tmp_path: Path) -> None:
    _put(tmp_path / "configs" / "triton_3_5_1")
    (row,) = lookup_rows([(SGLANG, PROBLEM, H200)], lambda *_: tmp_path)
    assert "there now for another Triton, in triton_3_5_1" in row.words
    _put(tmp_path / "configs" / "triton_3_6_0")
    (row,) = lookup_rows([(SGLANG, PROBLEM, H200)], lambda *_: tmp_path)
    assert row.words.endswith("triton_3_6_0 (SGLANG_MOE_CONFIG_DIR: there now)")
    assert row.folders[0].file == tmp_path / "configs" / "triton_3_6_0" / NAME


def test_launches_have_their_source(tmp_path: Path) -> None:
    (default,) = launch_rows([(VLLM, PROBLEM, H200)], lambda *_: None)
    assert default.source == "vLLM's default: files that it ships are unknown here"
    assert default.config == VLLM.default_config(PROBLEM, H200).as_keys()
    _put(tmp_path)
    (found,) = launch_rows([(VLLM, PROBLEM, H200)], lambda *_: tmp_path)
    assert (found.config, found.file) == (SMALL.as_keys(), tmp_path / NAME)
    assert launch_words(found) == {
        "engine": "vllm",
        "batch_size": 64,
        "launches": str(SMALL),
        "from": "file, key 64",
    }


def test_no_file_is_a_fact_only_where_shipped_ones_are_seen_or_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = [(SGLANG, PROBLEM, H200), (VLLM, PROBLEM, H200)]
    unknown = "default: files that it ships are unknown here"
    named = [row.source for row in launch_rows(asked, lambda *_: tmp_path)]
    assert named == ["SGLang's default: no file", f"vLLM's {unknown}"]  # SGLang reads it alone
    monkeypatch.setattr(Engine, "installed_config_folder", lambda _: tmp_path / "shipped")
    seen = [row.source for row in launch_rows(asked, lambda *_: None)]
    assert seen == ["SGLang's default: no file", "vLLM's default: no file"]


def test_a_broken_file_is_said_in_both(tmp_path: Path) -> None:
    _put(tmp_path, "{")
    asked = [(VLLM, PROBLEM, H200)]
    (launch,) = launch_rows(asked, lambda *_: tmp_path)
    assert launch.config is None
    assert launch.source.startswith("fails: ")
    (file,) = lookup_rows(asked, lambda *_: tmp_path)
    assert "VLLM_TUNED_CONFIG_FOLDER: broken: " in file.words
    assert file.folders[0].file is None
    assert file.folders[0].fault
