"""Seconds of a trial: what it says went to what, and the rest."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial

from autotune.report.html.search_charts import spent_on

_BEGIN = datetime(2026, 1, 1)


def _trial(seconds: float, **said: float) -> FrozenTrial:
    trial = create_trial(state=TrialState.FAIL, user_attrs=said)
    trial.datetime_start = _BEGIN
    trial.datetime_complete = _BEGIN + timedelta(seconds=seconds)
    return trial


def test_parts_and_the_rest_add_up_to_the_time_from_ask_to_tell() -> None:
    spent = spent_on(
        [_trial(10.0, compile_s=4.0, verify_s=1.0, measure_s=2.0), _trial(5.0, measure_s=5.0)]
    )
    assert spent == {
        "compile_s": 4.0,
        "verify_s": 1.0,
        "measure_s": 7.0,
        "rest_s": pytest.approx(3.0),
    }
    assert sum(spent.values()) == pytest.approx(15.0)


def test_a_trial_never_counts_more_than_it_took() -> None:
    spent = spent_on([_trial(3.0, compile_s=2.0, verify_s=2.0, measure_s=2.0)])
    assert sum(spent.values()) == pytest.approx(3.0)
    assert (spent["verify_s"], spent["measure_s"]) == (1.0, 0.0)
