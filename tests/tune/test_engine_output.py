"""From a study's measurements to the files that an engine reads."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from autotune.engines import ENGINES, read_configs, write_configs
from autotune.spec.config import AnyConfig, Config, ConfigPair
from autotune.spec.device import Device, DeviceKind, Target
from autotune.spec.problem import KernelMode, Problem
from autotune.studies.selection.finalists import Finalist
from autotune.studies.selection.select import Robust
from autotune.studies.trial_record import TrialRecord
from autotune.tune.engine_output import Result, write_files
from autotune.tune.jobs import Incumbent, Origin

SGLANG = ENGINES["sglang"]
PROBLEM = Problem(experts=8, top_k=2, hidden=4096, intermediate=1024, tokens=64)
SEPARATE = replace(PROBLEM, kernel=KernelMode.SEPARATE)
H200 = Device(DeviceKind.CUDA, "NVIDIA H200", Target("cuda", 90), 232448, "3.6.0")
DEFAULT, FAST, FILE = (Config(16, n, 64, 1, 4, 3) for n in (32, 64, 128))
CRASHING = Config(256, 64, 64, 1, 4, 3)
"""Not legal for an engine's kernel on SM90."""


def _entry(config: AnyConfig, us: float, *, complete: bool = True) -> TrialRecord:
    return TrialRecord(config, (us,), us, 0, complete)


def _result(*entries: TrialRecord, problem: Problem = PROBLEM, **fields: object) -> Result:
    incumbents = (
        Incumbent("sglang", Origin.DEFAULT, DEFAULT),
        Incumbent("sglang", Origin.FILE, FILE),
    )
    return Result(SGLANG, problem, H200, entries, **{"incumbents": incumbents, **fields})  # type: ignore[arg-type]


def test_the_fastest_legal_complete_entry_wins() -> None:
    result = _result(
        _entry(DEFAULT, 100),
        _entry(FAST, 90),
        _entry(CRASHING, 10),
        _entry(FILE, 1, complete=False),
    )
    assert result.winner is not None
    assert (result.winner.config, result.winner.speedup) == (FAST, pytest.approx(100 / 90))
    assert (result.config, result.default_us) == (FAST, 100)


def test_finalists_decide_where_there_are_any() -> None:
    finalists = tuple(
        Finalist(config, (us, 1.1 * us) * 3)
        for config, us in ((FAST, 99.0), (FILE, 95.0), (CRASHING, 9.0))
    )
    result = _result(_entry(DEFAULT, 100), _entry(FAST, 50), finalists=finalists)
    assert result.winner is not None
    assert (result.winner.config, result.winner.is_incumbent) == (FILE, True)


def test_where_the_worst_loss_counts_the_default_is_the_baseline() -> None:
    result = _result(_entry(DEFAULT, 100), _entry(FILE, 80), _entry(FAST, 90), robust=Robust.WORST)
    assert result.winner is not None
    assert (result.winner.config, result.winner.incumbent_us) == (FILE, 100)


def test_without_a_winner_the_incumbent_that_counts_most_is_written() -> None:
    assert _result().winner is None
    assert _result().config == FILE


def test_a_files_other_half_gets_what_it_lacks_without_tma(tmp_path: Path) -> None:
    """The up file of a run before has a batch size that the down file lacks."""
    path, down = (SGLANG.path(tmp_path, SEPARATE, H200, down=is_down) for is_down in (False, True))
    before = replace(FILE, use_tma=True)
    write_configs(SGLANG, path, {1: before}, SEPARATE, H200)
    pair = ConfigPair(replace(DEFAULT, use_tma=True), replace(FAST, use_tma=False))
    written = write_files([_result(_entry(pair, 10), problem=SEPARATE, incumbents=())], tmp_path)
    assert [file.path for file in written] == [path, down]
    assert read_configs(path) == {1: before, 64: pair.up}
    assert read_configs(down)[1] == replace(FILE, use_tma=None)
    assert replace(read_configs(down)[64], use_tma=None) == replace(pair.down, use_tma=None)
