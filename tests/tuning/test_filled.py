"""A file of some tuned batch sizes leaves the others as the engine launches them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from autotune.engines import DEFAULT_TOKENS, ENGINES, read_configs, write_configs
from autotune.engines.check import check_file
from autotune.engines.opening import opening
from autotune.spec.config import Config
from autotune.spec.device import Device, DeviceKind, Target
from autotune.spec.problem import Problem
from autotune.studies.trial_record import TrialRecord
from autotune.tuning.engine_output import Result, write_files

H200 = Device(DeviceKind.CUDA, "NVIDIA H200", Target("cuda", 90), 232448, "3.6.0", "vllm 1: layer")
PROBLEM = Problem(8, 2, 4096, 1024, 16)
TUNED, THEIRS = Config(16, 128, 64, 1, 4, 5), Config(64, 64, 64, 8, 4, 2)


def _result(engine: str, tokens: int = 16) -> Result:
    device = replace(H200, method=f"{engine} 1: layer")
    trial = TrialRecord(TUNED, (10.0,), 10.0, 0, True)
    return Result(ENGINES[engine], replace(PROBLEM, tokens=tokens), device, (trial,), ())


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_other_batch_sizes_are_launched_as_without_the_file(engine: str, tmp_path: Path) -> None:
    result = _result(engine)
    written = write_files([result], tmp_path)
    for file in written:
        configs = read_configs(file.path)
        assert configs.keys() == set(DEFAULT_TOKENS)
        assert configs.pop(16) == TUNED
        for tokens, config in configs.items():
            problem = replace(PROBLEM, tokens=tokens)
            own = opening(result.engine, [], problem, result.device).config
            keys = own.as_keys()
            assert {key: config.as_keys()[key] for key in keys} == keys
        assert file.written == (16,)
        assert not [f for f in check_file(file.path, result.engine).findings if f.key == "file"]
    [note] = written[0].notes
    assert "1, 2, 4, 8, 24, " in note
    assert "16" not in note.split(" tokens were not tuned")[0].split(", ")


def test_what_a_later_run_tunes_takes_the_place_of_what_was_filled(tmp_path: Path) -> None:
    write_files([_result("vllm")], tmp_path)
    [file] = write_files([_result("vllm"), _result("vllm", 64)], tmp_path)
    assert read_configs(file.path)[64] == TUNED
    [note] = file.notes
    assert "64" not in note.split(" tokens were not tuned")[0].split(", ")


def test_with_a_file_of_the_users_its_nearest_entries_stay_in_force(tmp_path: Path) -> None:
    result = _result("vllm")
    path = result.engine.path(tmp_path, PROBLEM, result.device)
    write_configs(result.engine, path, {64: THEIRS}, PROBLEM, result.device)
    [file] = write_files([result], tmp_path)
    configs = read_configs(path)
    assert configs.pop(16) == TUNED
    assert set(configs.values()) == {THEIRS}
    [note] = file.notes
    assert "were not tuned" not in note
    assert note.endswith("4096 tokens it says what it said before")


def test_what_an_earlier_run_tuned_stays_and_is_said(tmp_path: Path) -> None:
    write_files([_result("vllm", 16), _result("vllm", 64)], tmp_path)
    [file] = write_files([_result("vllm", 1)], tmp_path)
    configs = read_configs(file.path)
    assert [tokens for tokens in configs if configs[tokens] == TUNED] == [1, 16, 64]
    assert file.written == (1,)
    [note] = file.notes
    assert note.endswith("; for 16, 64 tokens it says what it said before")
    assert not {"16", "64"} & set(note.split(" tokens were not tuned")[0].split(", "))


def test_a_file_of_all_batch_sizes_has_nothing_to_fill(tmp_path: Path) -> None:
    [file] = write_files([_result("vllm", tokens) for tokens in DEFAULT_TOKENS], tmp_path)
    assert file.written == tuple(DEFAULT_TOKENS)
    assert not file.notes


def test_sizes_that_a_server_ran_rule_the_steps_near_them(tmp_path: Path) -> None:
    [file] = write_files([_result("vllm", tokens) for tokens in (40, 64)], tmp_path)
    configs = read_configs(file.path)
    assert {tokens for tokens in configs if 24 <= tokens <= 128} == {24, 40, 64, 128}
    assert {1, 4096} < configs.keys()
