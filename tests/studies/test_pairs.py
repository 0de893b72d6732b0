from __future__ import annotations

from dataclasses import replace
from statistics import fmean

import optuna
import pytest
from trials import ask, is_exhausted, tell  # type: ignore[import-not-found]

from autotune.spec.config import Config, ConfigPair, config_from_keys
from autotune.spec.device import Device, DeviceKind, Target
from autotune.spec.measurement import Measurement
from autotune.spec.problem import Dtype, KernelMode, Problem
from autotune.studies.key import StudyKey
from autotune.studies.outcome import Outcome, TrialResult
from autotune.studies.pairs import (
    HalfTime,
    PairSpace,
    best_pairs,
    completed_as_asked,
    half_times,
    space_of,
    together,
)
from autotune.studies.search.samplers import SAMPLERS, make_sampler
from autotune.studies.space import Space
from autotune.studies.storage.open import open_storage
from autotune.studies.study_record import open_study
from autotune.studies.trial_io import enqueue
from autotune.studies.trial_record import TrialRecord, measured

SMALL, LARGE = Config(16, 32, 64, 1, use_tma=False), Config(64, 128, 64, 1, use_tma=True)


@pytest.fixture
def separate(problem: Problem) -> Problem:
    return replace(problem, kernel=KernelMode.SEPARATE)


@pytest.fixture
def pairs(separate: Problem, h200: Device) -> PairSpace:
    space = space_of(separate, h200)
    assert isinstance(space, PairSpace)
    return space


def _half_us(config: Config, best: Config) -> float:
    """Least for ``best``; the halves' best differ in everything but BLOCK_SIZE_M."""
    apart = (
        abs(a - b) for a, b in zip(config.as_keys().values(), best.as_keys().values(), strict=True)
    )
    return 10.0 + sum(distance**0.5 for distance in apart)


UP = Config(32, 64, 128, 8, 4, 3, use_tma=True)
DOWN = Config(32, 256, 64, 1, 8, 5, use_tma=False)


def _result(pair: ConfigPair) -> TrialResult:
    up, down = _half_us(pair.up, UP), _half_us(pair.down, DOWN)
    samples = [tuple(us + i / 100 for i in range(3)) for us in (up, down)]
    return TrialResult(Outcome.OK, Measurement.of_columns(samples, how="test"))


def test_keys_and_back() -> None:
    pair = ConfigPair(replace(SMALL, block_size_m=64), LARGE)
    keys = pair.as_keys()
    assert list(keys)[:2] == ["BLOCK_SIZE_M", "up.BLOCK_SIZE_N"]
    assert "up.BLOCK_SIZE_M" not in keys
    assert ConfigPair.from_keys(keys) == config_from_keys(keys) == pair
    assert config_from_keys(LARGE.as_keys()) == LARGE


def test_the_space_is_a_product_for_each_block_size_m(pairs: PairSpace) -> None:
    assert ConfigPair(UP, DOWN) in pairs
    assert len(pairs) > 1_000_000
    assert len(pairs.configs) == len(pairs.up)
    assert set(pairs.knobs) == set(ConfigPair(UP, DOWN).as_keys())
    too_large = ConfigPair(replace(UP, num_stages=5, block_size_k=256, block_size_n=256), DOWN)
    assert pairs.why_not(ConfigPair(UP, DOWN)) is None
    assert str(pairs.why_not(too_large)).startswith("up: 5 stages of its tiles need")
    fewer = PairSpace(pairs.up, Space(pairs.down.configs[1:]))
    assert fewer.fingerprint != pairs.fingerprint


def test_a_half_without_the_others_block_size_m_is_left_out(pairs: PairSpace) -> None:
    only_32 = Space(c for c in pairs.down.configs if c.block_size_m == 32)
    assert {c.block_size_m for c in PairSpace(pairs.up, only_32).up.configs} == {32}


@pytest.mark.parametrize("name", SAMPLERS)
def test_samplers_of_pairs(name: str, database: str, key: StudyKey, pairs: PairSpace) -> None:
    """Feasible, new, and every half's unseen configs from both ways of choosing one."""
    pair_key = replace(key, problem=replace(key.problem, kernel=KernelMode.SEPARATE))
    study = open_study(
        open_storage(database, create=True), pair_key, make_sampler(name, pairs, 7), {"model": "m"}
    )
    seen = []
    for _ in range(6 if name == "gp" else 24):
        asked = ask(study, pairs)
        assert asked.config in pairs
        seen.append(asked.config)
        tell(study, asked, _result(asked.config), None)
    assert len(set(seen)) == len(seen)
    assert len({pair.up for pair in seen}) == len({pair.down for pair in seen}) == len(seen)


def test_the_surrogate_finds_both_halves(key: StudyKey, pairs: PairSpace) -> None:
    """Mean of six seeds; of twelve it is 30. Random pairs reach 46 there, and 37 at best."""
    found = []
    for seed in range(6):
        study = optuna.create_study(sampler=make_sampler("surrogate", pairs, seed))
        study.set_user_attr("key", key.as_json())
        for _ in range(24):
            asked = ask(study, pairs)
            tell(study, asked, _result(asked.config), None)
        best = best_pairs(measured(study.trials))[0]
        found.append(_half_us(best.up, UP) + _half_us(best.down, DOWN))
    assert fmean(found) < 37


def test_a_failed_half_does_not_condemn_the_other(
    database: str, key: StudyKey, pairs: PairSpace
) -> None:
    few = PairSpace(Space([UP]), Space([DOWN, replace(DOWN, num_stages=4)]))
    study = open_study(
        open_storage(database, create=True), key, make_sampler("grid", few, 0), {"model": "m"}
    )
    first = ask(study, few)
    tell(study, first, TrialResult(Outcome.COMPILE_ERROR, failed_half="down"), None)
    second = ask(study, few)
    assert second.config.up == UP
    assert second.config.down != first.config.down
    tell(study, second, _result(second.config), None)
    assert is_exhausted(study, few)


def test_a_study_ends_when_every_half_was_tried(database: str, key: StudyKey) -> None:
    few = PairSpace(Space([UP]), Space(replace(DOWN, num_stages=s) for s in (2, 3, 4, 5)))
    study = open_study(
        open_storage(database, create=True), key, make_sampler("random", few, 0), {"model": "m"}
    )
    count = 0
    while not is_exhausted(study, few):
        asked = ask(study, few)
        tell(study, asked, _result(asked.config), None)
        count += 1
    assert count == 4


def test_queued_pairs_come_back_as_pairs(database: str, key: StudyKey, pairs: PairSpace) -> None:
    study = open_study(
        open_storage(database, create=True), key, make_sampler("random", pairs, 0), {"model": "m"}
    )
    pair = ConfigPair(UP, DOWN)
    assert enqueue(study, pairs, [(pair, "test"), (pair, "again")]) == [pair]
    asked = ask(study, pairs)
    assert asked.config == pair
    tell(study, asked, _result(pair), None)
    [entry] = measured(study.trials)
    assert entry.config == pair
    assert entry.samples_us == tuple(
        pytest.approx(up + down) for up, down in zip(entry.up_us, entry.down_us, strict=True)
    )


def _entry(pair: ConfigPair, up_us: float, down_us: float, *, complete: bool = True) -> TrialRecord:
    total = up_us + down_us
    return TrialRecord(pair, (total,), total, 0, complete, (up_us,), (down_us,))


def test_the_best_halves_of_different_trials_go_together() -> None:
    up2, down2 = replace(UP, num_stages=5), replace(DOWN, num_stages=2)
    large = ConfigPair(LARGE, LARGE)
    entries = [
        _entry(ConfigPair(UP, DOWN), 10, 30),
        _entry(ConfigPair(up2, down2), 20, 15),
        _entry(ConfigPair(up2, DOWN), 1, 1, complete=False),
        _entry(large, 11, 11),
    ]
    assert best_pairs(entries) == [large, ConfigPair(UP, down2)]
    assert best_pairs([]) == []


def test_halves_of_any_kind() -> None:
    """Times of each half, of complete trials of pairs alone; the space with and without them."""
    pair = ConfigPair(replace(SMALL, block_size_m=64), LARGE)
    entries = [
        TrialRecord(pair, (30.0, 33.0), 31.0, 0, True, (10.0, 40.0), (20.0, 80.0), routings=2),
        TrialRecord(pair, (3.0,), 3.0, 1, False, (1.0,), (2.0,)),
        TrialRecord(pair, (3.0,), 3.0, 2, True),
        TrialRecord(LARGE, (3.0,), 3.0, 3, True, (1.0,), (2.0,)),
    ]
    assert half_times(entries, "up") == [HalfTime(pair.up, pytest.approx(20.0))]
    assert half_times(entries, "down") == [HalfTime(pair.down, pytest.approx(40.0))]
    assert best_pairs(entries) == [pair]
    assert best_pairs(entries[1:]) == []

    ups, downs = [replace(SMALL, group_size_m=g) for g in (1, 2, 4)], [SMALL, LARGE]
    space = PairSpace(Space([*ups, LARGE]), Space(downs))
    assert (space.half("up"), space.half("down")) == (space.up, space.down)
    assert len(space) == 3 * 1 + 1 * 1
    assert space.configs == (ConfigPair(SMALL, SMALL), ConfigPair(LARGE, LARGE))
    assert ConfigPair(ups[2], SMALL) in space
    assert ConfigPair(SMALL, ups[2]) not in space
    assert SMALL not in space
    assert str(space.why_not(ConfigPair(SMALL, ups[2]))).startswith("down: ")
    assert space.why_not(SMALL) is None  # twice the same
    some = {ConfigPair(up, SMALL) for up in ups}
    assert not space.is_exhausted(some)
    assert space.is_exhausted(some | {ConfigPair(LARGE, LARGE)})
    assert not PairSpace(Space([SMALL]), Space([SMALL])).is_exhausted(set())
    assert PairSpace(Space([SMALL]), Space([LARGE])).knobs == {}
    for halves in ((Space([SMALL]), Space(ups)), (Space(ups), Space([SMALL]))):
        assert not PairSpace(*halves).is_exhausted({ConfigPair(SMALL, SMALL)})
    assert len(space.fingerprint) == 12


def test_the_smallest_sum_comes_first() -> None:
    slow_up, fast_up = ConfigPair(SMALL, SMALL), ConfigPair(LARGE, LARGE)
    entries = [
        TrialRecord(slow_up, (70.0,), 70.0, 0, True, (60.0,), (10.0,)),
        TrialRecord(fast_up, (50.0,), 50.0, 1, True, (20.0,), (30.0,)),
    ]
    assert best_pairs(entries) == [fast_up, slow_up]
    swapped = [
        TrialRecord(slow_up, (70.0,), 70.0, 0, True, (10.0,), (60.0,)),
        TrialRecord(fast_up, (50.0,), 50.0, 1, True, (30.0,), (20.0,)),
    ]
    assert best_pairs(swapped) == [fast_up, slow_up]


def test_what_a_user_has_becomes_a_pair(separate: Problem, h200: Device) -> None:
    default = Config(64, 64, 32, 8)
    off = replace(default, use_tma=False)
    assert completed_as_asked(separate, h200, default) == ConfigPair(off, off)
    other = Config(32, 64, 32, 8)
    assert completed_as_asked(separate, h200, default, other) == ConfigPair(off, off)
    fp8 = replace(separate, dtype=Dtype.FP8_W8A8)
    assert completed_as_asked(fp8, h200, default) == ConfigPair(default, default)
    fused = replace(separate, kernel=KernelMode.FUSED)
    assert completed_as_asked(fused, h200, default) == default


def test_two_files_share_the_first_ones_rows_and_may_say_the_same() -> None:
    fused = Problem(8, 2, 512, 256, 64)
    device = Device(DeviceKind.CUDA, "NVIDIA H200", Target("cuda", 90), 232448, "3.6.0")
    up, down = Config(16, 64, 64, 1, 4, 3), Config(64, 64, 64, 1, 4, 3)
    assert together(fused, device, up, down) == up
    other = replace(down, num_warps=8)
    assert together(fused, device, up, other) == ConfigPair(up, replace(other, block_size_m=16))
    apart = together(replace(fused, kernel=KernelMode.SEPARATE), device, up, down)
    assert isinstance(apart, ConfigPair)
    assert apart.up == apart.down
