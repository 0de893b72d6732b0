"""The sampler over any enumerable table: what counts, what never happens, how good it is."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from autotune.studies.search.surrogate.candidates import candidates_of
from autotune.studies.search.surrogate.sampler import SurrogateSampler

ROWS = [
    {"tile": tile, "depth": depth, "mode": mode, "fixed": 1}
    for tile in (16, 32, 48, 64, 96, 128)
    for depth in (0, 1, 2, 4, 8)
    for mode in (1, 2, 4)
    if tile * max(depth, 1) <= 512
]


def bowl(row: dict[str, Any]) -> float:
    """Best at tile 64, depth 4, mode 2: 100 µs."""
    apart = abs(math.log2(row["tile"]) - 6) + abs(row["depth"] - 4) / 2
    return 100.0 * math.exp(0.3 * apart + {1: 0.2, 2: 0.0, 4: 0.5}[row["mode"]])


FEW = ROWS[::4]
"""Exhausted at little cost."""


def search(
    count: int,
    seed: int = 0,
    time_of: Callable[[dict[str, Any]], float | None] = bowl,
    rows: list[dict[str, Any]] = ROWS,
) -> tuple[optuna.Study, SurrogateSampler]:
    """A study after ``count`` trials; where ``time_of`` is None a trial fails for a reason."""
    candidates = candidates_of(rows)
    sampler = SurrogateSampler(candidates, seed)
    study = optuna.create_study(sampler=sampler)
    for _ in range(count):
        trial = study.ask(dict(candidates.distributions))
        us = time_of(dict(trial.params))
        if us is None:
            trial.set_user_attr("outcome", "compile error")
        study.tell(trial, us, state=TrialState.FAIL if us is None else None)
    return study, sampler


def proposals(study: optuna.Study) -> list[tuple[Any, ...]]:
    return [tuple(trial.params[name] for name in ROWS[0]) for trial in study.trials]


def test_a_valley_is_found_in_a_quarter_of_the_table() -> None:
    for seed in range(3):
        study, _ = search(len(ROWS) // 4, seed)
        assert study.best_value <= 1.02 * 100.0


def test_nothing_is_asked_twice_until_all_is_asked_once() -> None:
    study, sampler = search(len(FEW), rows=FEW)
    assert sorted(proposals(study)) == sorted(tuple(row.values()) for row in FEW)
    assert sampler.expected_gain(study) == 0.0
    with pytest.raises(RuntimeError, match="taken"):
        study.ask(dict(candidates_of(FEW).distributions))


def test_a_seed_makes_it_repeatable_and_another_one_differs() -> None:
    assert proposals(search(16, 3)[0]) == proposals(search(16, 3)[0])
    assert proposals(search(16, 3)[0]) != proposals(search(16, 4)[0])


def test_trials_in_work_are_counted() -> None:
    study, _ = search(12)
    distributions = dict(candidates_of(ROWS).distributions)
    batch = [study.ask(distributions) for _ in range(8)]
    assert len({tuple(trial.params.values()) for trial in batch}) == 8
    assert not {tuple(t.params.values()) for t in batch} & set(proposals(search(12)[0]))


def test_what_is_queued_is_not_proposed() -> None:
    candidates = candidates_of(ROWS)
    sampler = SurrogateSampler(candidates, 0)
    study = optuna.create_study(sampler=sampler)
    for row in ROWS[:20]:
        study.enqueue_trial(row)
    asked = [study.ask(dict(candidates.distributions)).params for _ in range(30)]
    assert len({tuple(params.values()) for params in asked}) == 30


def test_interrupted_trials_may_come_back_and_failed_ones_may_not() -> None:
    candidates = candidates_of(ROWS[:3])
    study = optuna.create_study(sampler=SurrogateSampler(candidates, 0))
    interrupted = study.ask(dict(candidates.distributions))
    study.tell(interrupted, state=TrialState.FAIL)
    asked = [study.ask(dict(candidates.distributions)).params for _ in range(3)]
    assert interrupted.params in asked


def test_failures_teach_where_not_to_look() -> None:
    study, _ = search(40, time_of=lambda row: None if row["mode"] == 4 else bowl(row))
    failed = sum(trial.state == TrialState.FAIL for trial in study.trials)
    assert failed < 40 / 3
    assert study.best_value <= 1.02 * 100.0


def test_pruned_trials_inform_but_do_not_win() -> None:
    candidates = candidates_of(ROWS)
    study = optuna.create_study(sampler=SurrogateSampler(candidates, 0))
    for _ in range(24):
        trial = study.ask(dict(candidates.distributions))
        us = bowl(dict(trial.params))
        if us > 150:
            trial.report(us, step=0)
            study.tell(trial, state=TrialState.PRUNED)
        else:
            study.tell(trial, us)
    assert study.best_value <= 1.02 * 100.0


def key(params: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(params[name] for name in ROWS[0])


@pytest.mark.parametrize("told", [0, 4, 7, 20], ids="{} told".format)
def test_a_batch_is_distinct_new_and_repeatable(told: int) -> None:
    """From nothing, in the first design, across its end, and after it."""
    study, sampler = search(told)
    batch = sampler.propose(study, 8)
    assert len({key(params) for params in batch}) == 8
    assert all(params in ROWS for params in batch)
    assert not {key(params) for params in batch} & set(proposals(study))
    again, other = search(told)
    assert other.propose(again, 8) == batch
    assert len(study.trials) == told


@pytest.mark.parametrize("told", [0, 4, 20, 40], ids="{} told".format)
def test_a_batch_is_what_asking_brings(told: int) -> None:
    """While nothing is told: the first of any batch, and all of it by trials in work."""
    study, sampler = search(told)
    batch = sampler.propose(study, 4)
    asked = [study.ask(dict(candidates_of(ROWS).distributions)).params for _ in batch]
    assert asked == batch


def test_a_batch_is_spread_and_the_likely_ones_are_the_best() -> None:
    study, sampler = search(20)
    likely = sampler.likely(study, 4)
    assert likely[0] == sampler.propose(study, 1)[0]
    assert len({key(params) for params in likely}) == 4
    assert not {key(params) for params in likely} & set(proposals(study))


def test_what_is_in_work_changes_a_batch() -> None:
    study, sampler = search(20)
    first = sampler.propose(study, 3)
    for params in first:
        study.enqueue_trial(params)
    assert not {key(p) for p in sampler.propose(study, 5)} & {key(p) for p in first}
    assert not {key(p) for p in sampler.likely(study, 5)} & {key(p) for p in first}


def test_a_batch_ends_with_the_candidates() -> None:
    study, sampler = search(len(FEW) - 3, rows=FEW)
    left = {tuple(row.values()) for row in FEW} - set(proposals(study))
    assert {key(params) for params in sampler.propose(study, 8)} == left
    assert {key(params) for params in sampler.likely(study, 8)} == left
    done, sampler = search(len(FEW), rows=FEW)
    assert sampler.propose(done, 8) == [] == sampler.likely(done, 8)


def test_a_batch_beyond_what_was_told_is_no_run_of_neighbours() -> None:
    """Of eight at a time, more kinds of tile are tried than among the eight likeliest."""
    study, sampler = search(16)
    batch, likely = sampler.propose(study, 8), sampler.likely(study, 8)
    assert apart(batch) > apart(likely)


def apart(batch: list[dict[str, Any]]) -> float:
    """Mean distance of two of the batch, in knobs."""
    candidates = candidates_of(ROWS)
    rows = [candidates.index(params) for params in batch]
    at = candidates.unit[[row for row in rows if row is not None]]
    return float(abs(at[:, None] - at[None]).sum(axis=2).mean())


def test_the_expected_gain_falls_as_the_search_ends() -> None:
    """Not before 15 measurements, however sure the model is, and not just after a new best."""
    study, sampler = search(14)
    assert sampler.expected_gain(study) == math.inf
    study, sampler = search(40)
    assert 0 <= sampler.expected_gain(study) < 0.005
    distributions = dict(candidates_of(ROWS).distributions)
    study.tell(study.ask(distributions), study.best_value / 2)
    assert sampler.expected_gain(study) == math.inf


def test_the_expected_gain_is_believed_the_less_the_longer_nothing_came_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    study, sampler = search(40)
    values = [trial.value for trial in study.trials]
    stale = len(values) - 1 - values.index(study.best_value)
    assert stale > 10
    gain = sampler.expected_gain(study)
    monkeypatch.setattr("autotune.studies.search.surrogate.sampler._STOP_STALE", stale)
    assert sampler.expected_gain(study) == pytest.approx(gain * stale / 5)
    assert gain > 0


def test_other_parameters_than_the_candidates_are_refused() -> None:
    study = optuna.create_study(sampler=SurrogateSampler(candidates_of(ROWS), 0))
    with pytest.raises(ValueError, match="enumerates"):
        study.ask({"other": optuna.distributions.IntDistribution(0, 3)})
    with pytest.raises(ValueError, match="no candidates"):
        candidates_of([])


def test_codes() -> None:
    candidates = candidates_of(ROWS)
    # each an exponent, that of 0 one below the least; one that never changes has no column
    assert candidates.knobs.shape == (len(ROWS), 3)
    assert set(candidates.knobs[:, 1]) == {-1.0, 0.0, 1.0, 2.0, 3.0}
    assert set(candidates_of([{"is_on": v} for v in (0, 1, 0)]).knobs[:, 0]) == {0.0, 1.0}
    assert candidates.index({**ROWS[5]}) == 5
    assert candidates.index({"tile": 16}) is None
