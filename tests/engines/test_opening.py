"""What engines open, folder by folder, and launch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from engine_cases import H200, LARGE, SMALL, make_problem  # type: ignore[import-not-found]

from autotune.engines import ENGINES, Engine
from autotune.engines.opening import folders_read, opening
from autotune.spec.config import Config

SGLANG, VLLM = ENGINES["sglang"], ENGINES["vllm"]
PROBLEM = make_problem()


def _put(folder: Path, name: str, entries: Mapping[int, Config]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    body = {str(key): config.as_keys() for key, config in entries.items()}
    (folder / name).write_text(json.dumps(body))
    return folder / name


def _install(monkeypatch: pytest.MonkeyPatch, engine: Engine, folder: Path) -> None:
    monkeypatch.setattr(type(engine), "installed_config_folder", lambda _: folder)


def test_without_a_file_the_default_is_launched(tmp_path: Path) -> None:
    for engine in ENGINES.values():
        opened = opening(engine, [tmp_path], PROBLEM, H200)
        assert opened.config == engine.default_config(PROBLEM, H200)
        assert (opened.found, opened.down) == (None, None)


def test_vllm_reads_its_variable_first_and_then_what_it_ships(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    env, shipped = tmp_path / "env", tmp_path / "shipped"
    _install(monkeypatch, VLLM, shipped)
    folders = folders_read(VLLM, env)
    assert folders == [env, shipped]
    name = VLLM.file_name(PROBLEM, H200)
    _put(shipped, name, {64: LARGE})
    assert opening(VLLM, folders, PROBLEM, H200).config == LARGE
    ours = _put(env, name, {1: SMALL, 128: LARGE})
    opened = opening(VLLM, folders, replace(PROBLEM, tokens=2), H200)
    assert (opened.config, opened.found and (opened.found.path, opened.found.key)) == (
        SMALL,
        (ours, 1),
    )


def test_sglang_reads_its_variable_in_place_of_what_it_ships(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _install(monkeypatch, SGLANG, tmp_path)
    assert folders_read(SGLANG, tmp_path / "env") == [tmp_path / "env"]
    assert folders_read(SGLANG, None) == [tmp_path]


def test_a_down_file_is_launched_with_the_rows_of_the_up_file(tmp_path: Path) -> None:
    folder = SGLANG.file_folder(tmp_path, H200)
    _put(folder, SGLANG.file_name(PROBLEM, H200), {64: SMALL})
    assert opening(SGLANG, [tmp_path], PROBLEM, H200).down is None
    _put(folder, SGLANG.file_name(PROBLEM, H200, down=True), {64: LARGE})
    opened = opening(SGLANG, [tmp_path], PROBLEM, H200)
    assert opened.config == SMALL
    assert opened.down is not None
    assert opened.down.config == replace(LARGE, block_size_m=SMALL.block_size_m)
