"""What the models learn from: log times whose slow tail is compressed."""

from __future__ import annotations

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState

from autotune.studies.search.surrogate.candidates import Observed, candidates_of, observed_of

NONE = np.zeros(0, dtype=np.int64)


def _observed(us: list[float], failed: list[int] | None = None) -> Observed:
    count = len(us)
    rows = np.array(failed or [], dtype=np.int64)
    return Observed(np.arange(count), np.array(us), np.ones(count, dtype=bool), rows, NONE)


def test_how_much_slower_a_slow_one_is_says_little() -> None:
    """Up to e times the best a log time is itself; from there on differences shrink, and the order
    stays. A thousand and two thousand times the best are nearly the same."""
    us = [1.0, 2.0, 10.0, 1000.0, 2000.0]
    found = _observed(us).log_us
    assert found[:2].tolist() == np.log(us[:2]).tolist()
    assert (np.diff(found) > 0).all()
    assert found[2] == pytest.approx(1 + 0.2 * np.log1p((np.log(10) - 1) / 0.2))
    assert found[2] < np.log(10) - 0.8
    assert found[4] - found[3] < 0.03


def test_failures_count_as_slow() -> None:
    assert _observed([10.0, 20.0], [5]).log_us[-1] == pytest.approx(np.log(10) + 1.5)


def test_a_pruned_time_is_not_the_best_unless_all_are_pruned() -> None:
    rows, us = np.arange(3), np.array([5.0, 9.0, 8.0])
    some = Observed(rows, us, np.array([False, True, True]), NONE, NONE)
    assert (some.best, some.stale) == (np.log(8.0), 0)
    none = Observed(rows, us, np.zeros(3, dtype=bool), NONE, NONE)
    assert (none.best, none.stale) == (np.log(5.0), 2)


def test_trials_by_what_became_of_their_rows() -> None:
    table = candidates_of([{"tile": 2**i} for i in range(8)])
    distributions = dict(table.distributions)
    study = optuna.create_study()

    def add(row: int, state: TrialState, us: float | None = None, outcome: str = "") -> None:
        attrs = {"outcome": outcome} if outcome else {}
        params = dict(table.rows[row])
        study.add_trial(
            optuna.trial.create_trial(
                state=state, value=us, params=params, distributions=distributions, user_attrs=attrs
            )
        )

    add(0, TrialState.COMPLETE, 9.0)
    add(0, TrialState.COMPLETE, 8.0)  # later ones win
    add(1, TrialState.PRUNED, 30.0)
    add(2, TrialState.FAIL, outcome="crashed")
    add(3, TrialState.FAIL)  # interrupted: says nothing
    add(4, TrialState.RUNNING)
    add(0, TrialState.RUNNING)  # a measurement wins over all else
    add(2, TrialState.RUNNING)
    study.enqueue_trial({"tile": 2**5})
    found = observed_of(table, study.get_trials())
    assert dict(zip(found.measured.tolist(), found.us.tolist(), strict=True)) == {0: 8.0, 1: 30.0}
    assert found.complete.tolist() == [True, False]
    assert (found.failed.tolist(), found.pending.tolist()) == ([2], [4, 5])
    assert found.taken.tolist() == [0, 1, 2, 4, 5]
