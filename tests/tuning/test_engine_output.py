"""From a study's measurements to the files that an engine reads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from threading import Barrier, BrokenBarrierError
from typing import Any

import pytest

from autotune.backends import stand_in
from autotune.backends.estimate.margin import margin_of
from autotune.backends.stand_in import Cell, Evidence
from autotune.engines import ENGINES, read_configs, write_configs
from autotune.spec.config import AnyConfig, Config, ConfigPair
from autotune.spec.device import Device, DeviceKind, Target
from autotune.spec.problem import KernelMode, Problem
from autotune.studies.selection.finalists import Finalist
from autotune.studies.selection.select import Robust
from autotune.studies.trial_record import TrialRecord
from autotune.tuning import engine_output
from autotune.tuning.engine_output import Result, write_files
from autotune.tuning.filled import filled
from autotune.tuning.jobs import Incumbent, Job, Origin, present_config

SGLANG = ENGINES["sglang"]
PROBLEM = Problem(experts=8, top_k=2, hidden=4096, intermediate=1024, tokens=64)
SEPARATE = replace(PROBLEM, kernel=KernelMode.SEPARATE)
H200 = Device(DeviceKind.CUDA, "NVIDIA H200", Target("cuda", 90), 232448, "3.6.0")
DEFAULT, FAST, FILE = (Config(16, n, 64, 1, 4, 3) for n in (32, 64, 128))
CRASHING = Config(256, 64, 64, 1, 4, 3)
"""Not legal for an engine's kernel on SM90."""


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Our bf16 kernel is a proven stand-in for SGLang's alone."""
    evidence = {Cell("sglang", "bf16", "cuda:90"): Evidence("sglang 1", 9, 0.99, 0.0, 0.0, "")}
    monkeypatch.setattr(stand_in, "known_evidence", lambda: evidence)


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


_DEFAULT_ALONE = (Incumbent("sglang", Origin.DEFAULT, DEFAULT),)


def _estimate(*entries: TrialRecord, **fields: object) -> tuple[AnyConfig, bool]:
    device = replace(H200, kind=DeviceKind.ESTIMATE)
    winner = replace(_result(*entries), device=device, **fields).winner  # type: ignore[arg-type]
    assert winner is not None
    return winner.config, winner.is_incumbent


@pytest.mark.parametrize("robust", Robust)
def test_an_estimate_must_gain_more_than_the_model_errs(robust: Robust) -> None:
    default, share = _entry(DEFAULT, 100), 1 + margin_of(PROBLEM, H200.target)
    within, beyond = (_entry(FAST, 100 / share * factor) for factor in (1.001, 0.999))
    assert _estimate(default, within, robust=robust) == (DEFAULT, True)
    assert _estimate(default, beyond, robust=robust) == (FAST, False)
    measured = _result(default, within, robust=robust).winner
    assert measured is not None
    assert measured.config == FAST


def test_a_file_of_estimates_is_one_itself_and_a_shipped_one_is_none() -> None:
    """The file must gain as much as any other config, over what the engine launches without it."""
    default, file = _entry(DEFAULT, 100), _entry(FILE, 95)
    assert _estimate(default, file) == (DEFAULT, True)
    assert _estimate(default, file, _entry(FAST, 60)) == (FAST, False)
    shipped = Incumbent("sglang", Origin.SHIPPED, FILE)
    incumbents = (Incumbent("sglang", Origin.DEFAULT, DEFAULT), shipped)
    assert _estimate(default, _entry(FILE, 105), incumbents=incumbents) == (FILE, True)
    assert _estimate(default, _entry(FILE, 200), incumbents=incumbents) == (DEFAULT, False)


def test_without_a_modelled_default_the_fastest_estimate_stands() -> None:
    assert _estimate(_entry(FAST, 99), _entry(FILE, 100)) == (FAST, False)


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
    assert [read_configs(path)[tokens] for tokens in (1, 64)] == [before, pair.up]
    assert read_configs(down)[1] == replace(FILE, use_tma=None)
    assert replace(read_configs(down)[64], use_tma=None) == replace(pair.down, use_tma=None)


def test_files_of_an_unproven_stand_in_lie_apart_and_count_only_there(tmp_path: Path) -> None:
    vllm = ENGINES["vllm"]
    shared = _result(_entry(FAST, 90), incumbents=())
    written = write_files([shared, replace(shared, engine=vllm)], tmp_path)
    proven, down, apart = (file.path for file in written)
    assert proven == SGLANG.path(tmp_path, PROBLEM, H200)
    assert down == SGLANG.path(tmp_path, PROBLEM, H200, down=True)
    assert apart == vllm.path(tmp_path / "stand-in", PROBLEM, H200)
    own = replace(H200, method="vllm 0.33.0: whole layer")
    assert present_config(vllm, PROBLEM, H200, tmp_path) == FAST
    assert present_config(vllm, PROBLEM, own, tmp_path) is None
    sources = [i.source for i in Job(PROBLEM, (vllm,)).incumbents(own, tmp_path)]
    assert "vllm file" not in sources
    [measured] = write_files([replace(shared, engine=vllm, device=own)], tmp_path)
    assert measured.path == vllm.path(tmp_path, PROBLEM, own)


OWN_PAIR = ConfigPair(DEFAULT, replace(DEFAULT, num_warps=8))


def _own(engine: str, config: AnyConfig, *finalists: Finalist) -> Result:
    """What an engine launches by itself, and finalists on its own kernel."""
    device = replace(H200, method=f"{engine} 1: whole layer")
    incumbents = (Incumbent(engine, Origin.OWN, config),)
    measured = (_entry(FAST, 90),)
    return Result(ENGINES[engine], PROBLEM, device, measured, incumbents, finalists)


def test_speed_ups_are_over_what_the_engine_launches_by_itself() -> None:
    result = _own("vllm", FILE, Finalist(FAST, (90.0,) * 4), Finalist(FILE, (99.0,) * 4))
    assert (result.default, result.default_us) == (FILE, 99.0)
    assert not result.is_beaten_by_a_pair
    assert result.winner is not None
    assert result.winner.config == FAST


def test_a_pair_of_its_own_that_is_not_beaten_is_written_into_both_files(tmp_path: Path) -> None:
    ours, own = Finalist(FAST, (99.0,) * 4), Finalist(OWN_PAIR, (90.0,) * 4)
    result = _own("sglang", OWN_PAIR, ours, own)
    assert result.is_beaten_by_a_pair
    files = write_files([result], tmp_path)
    up, down = (read_configs(file.path)[64] for file in files)
    assert (up, down) == (OWN_PAIR.up, OWN_PAIR.down)


def test_what_an_earlier_run_wrote_stays_where_nothing_was_measured() -> None:
    own = _own("vllm", DEFAULT)
    file = Incumbent("vllm", Origin.FILE, FILE)
    assert replace(own, measured=(), incumbents=(file, *own.incumbents)).config == FILE
    assert replace(own, measured=()).config == DEFAULT


def test_a_file_for_which_nothing_was_measured_is_not_touched(tmp_path: Path) -> None:
    own = _own("vllm", DEFAULT)
    nothing = replace(own, problem=replace(PROBLEM, tokens=32), measured=())
    assert write_files([nothing], tmp_path) == []
    assert list(tmp_path.iterdir()) == []
    [file] = write_files([own], tmp_path)
    text = file.path.read_text()
    assert write_files([nothing], tmp_path) == []
    assert file.path.read_text() == text
    [both] = write_files([nothing, own], tmp_path)  # one measured batch size, and all have entries
    assert both.written == (64,)
    assert file.path.read_text() == text


def test_an_entry_that_was_not_compared_stays(tmp_path: Path) -> None:
    own = _own("vllm", DEFAULT)
    path = own.engine.path(own.folder(tmp_path), PROBLEM, own.device)
    write_configs(own.engine, path, {64: FILE}, PROBLEM, own.device)
    ended_early = replace(own, measured=(_entry(DEFAULT, 100),))
    assert write_files([ended_early], tmp_path) == []
    assert read_configs(path)[64] == FILE
    for more in (FILE, FAST):  # it was compared; something else was, and so it too, but it failed
        compared = replace(own, measured=(_entry(DEFAULT, 100), _entry(more, 110)))
        file = Incumbent("vllm", Origin.FILE, FILE)
        [written] = write_files([replace(compared, incumbents=(*own.incumbents, file))], tmp_path)
        assert read_configs(written.path)[64] == DEFAULT
        write_configs(own.engine, path, {64: FILE}, PROBLEM, own.device)


def test_a_file_is_kept_whose_entry_nothing_was_compared_with(tmp_path: Path) -> None:
    result = _result(_entry(DEFAULT, 100), _entry(FAST, 90), incumbents=_DEFAULT_ALONE)
    up, down = (SGLANG.path(tmp_path, PROBLEM, H200, down=down) for down in (False, True))
    write_configs(SGLANG, up, {64: FAST}, PROBLEM, H200)
    write_configs(SGLANG, down, {64: FILE}, PROBLEM, H200)
    before = up.read_text(), down.read_text()
    assert write_files([result], tmp_path, is_final=False) == []
    assert (up.read_text(), down.read_text()) == before
    [file, _] = write_files([result], tmp_path)
    backups = [path.with_name(f"{path.name}.bak") for path in (up, down)]
    assert tuple(path.read_text() for path in backups) == before
    assert file.notes[-1].endswith(f"kept as {backups[0].name} and {backups[1].name}")
    assert (read_configs(up)[64], read_configs(down)[64]) == (FAST, FAST)
    again = write_files([_result(_entry(FAST, 90)), _result(_entry(DEFAULT, 100))], tmp_path)
    assert "kept as" not in str(again)
    assert len([*tmp_path.rglob("*.bak*")]) == 2


def test_what_two_processes_tune_at_once_is_kept_of_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both_have_read = Barrier(2, timeout=0.5)

    def slowly(*args: Any) -> Any:
        with suppress(BrokenBarrierError):
            both_have_read.wait()
        return filled(*args)

    monkeypatch.setattr(engine_output, "filled", slowly)
    own = _own("vllm", DEFAULT, Finalist(FAST, (80.0,) * 4), Finalist(DEFAULT, (99.0,) * 4))
    results = [replace(own, problem=replace(PROBLEM, tokens=tokens)) for tokens in (16, 64)]
    with ThreadPoolExecutor() as pool:
        [file], _ = pool.map(lambda result: write_files([result], tmp_path), results)
    assert [n for n, config in read_configs(file.path).items() if config == FAST] == [16, 64]


def test_what_no_file_can_say_has_no_file_before_it_was_compared(tmp_path: Path) -> None:
    assert write_files([_own("vllm", OWN_PAIR)], tmp_path) == []
    failed = _own("vllm", OWN_PAIR, Finalist(FAST, (99.0,) * 4))
    [file] = write_files([failed], tmp_path)
    assert read_configs(file.path)[64] == FAST


def test_a_file_has_every_batch_size_lest_the_engine_takes_the_nearest(tmp_path: Path) -> None:
    own, slower = Finalist(OWN_PAIR, (90.0,) * 4), Finalist(FAST, (99.0,) * 4)
    kept = _own("vllm", OWN_PAIR, slower, own)
    beaten = replace(kept, problem=replace(PROBLEM, tokens=32), finalists=(slower,))
    unknown = replace(kept, problem=replace(PROBLEM, tokens=16), finalists=(), measured=())
    [file] = write_files([unknown, beaten, kept], tmp_path)
    configs = read_configs(file.path)
    assert {tokens for tokens, config in configs.items() if config == FAST} == {32, 64}
    [file] = write_files([kept], tmp_path)
    assert file.written == (64,)


def test_what_no_file_can_say_has_no_entry_unless_it_is_beaten(tmp_path: Path) -> None:
    faster, slower = (Finalist(FAST, (us,) * 4) for us in (80.0, 99.0))
    own = Finalist(OWN_PAIR, (90.0,) * 4)
    assert write_files([_own("vllm", OWN_PAIR, slower, own)], tmp_path) == []
    [file] = write_files([_own("vllm", OWN_PAIR, faster, own)], tmp_path)
    assert read_configs(file.path)[64] == FAST
