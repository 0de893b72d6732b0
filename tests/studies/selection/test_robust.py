from __future__ import annotations

import pytest

from autotune.spec.config import Config
from autotune.studies.selection.finalists import Finalist, pick
from autotune.studies.selection.select import Robust, needed_to_judge, ranked, worst_losses
from autotune.studies.trial_record import TrialRecord

LEVEL, PEAKED, BETWEEN, DEFAULT = (Config(16, 32, 64, g, 4, 3) for g in range(1, 5))
TIMES = {LEVEL: (103.0, 103.0), PEAKED: (95.0, 110.0), BETWEEN: (101.0, 104.0)}
TIMES[DEFAULT] = (120.0, 104.0)
"""µs under two routings, in which PEAKED and LEVEL are the fastest. In the mean PEAKED is; it loses
6.8 % at worst, BETWEEN 6.3 %."""

FINALISTS = [Finalist(config, us * 10, routings=2) for config, us in TIMES.items()]
ENTRIES = [
    TrialRecord(f.config, f.samples_us, f.geomean_us, number, True, routings=2)
    for number, f in enumerate(FINALISTS)
]


def test_losses_are_counted_against_the_best_of_each_routing() -> None:
    losses = [103 / 95, 110 / 103, 101 / 95, 120 / 95]
    assert worst_losses(FINALISTS, 2) == pytest.approx(losses)


def test_what_is_wanted_most_depends_on_what_counts() -> None:
    mean, worst = ([f.config for f in ranked(FINALISTS, 2, robust)] for robust in Robust)
    assert mean == [PEAKED, BETWEEN, LEVEL, DEFAULT]
    assert worst == [BETWEEN, PEAKED, LEVEL, DEFAULT]


def test_under_one_routing_both_are_the_same() -> None:
    one = [Finalist(c, (us,) * 4) for c, (us, _) in TIMES.items()]
    assert ranked(one, 1, Robust.WORST) == ranked(one, 1, Robust.MEAN)


def test_those_by_which_losses_are_counted_are_finalists_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert [f.config for f in needed_to_judge(FINALISTS, 2, 1)] == [BETWEEN, PEAKED, LEVEL]
    monkeypatch.setattr("autotune.studies.selection.finalists.FINALISTS", 1)
    assert pick(ENTRIES, {DEFAULT}) == [PEAKED, DEFAULT]
    assert pick(ENTRIES, {DEFAULT}, Robust.WORST, 2) == [PEAKED, BETWEEN, LEVEL, DEFAULT]
    assert pick([], {DEFAULT}, Robust.WORST, 2) == []


def test_one_sample_under_each_routing_is_enough() -> None:
    single = [Finalist(config, us, routings=2) for config, us in TIMES.items()]
    assert [f.config for f in ranked(single, 2, Robust.WORST)] == [BETWEEN, PEAKED, LEVEL, DEFAULT]


def test_who_was_not_measured_under_every_routing_is_left_out() -> None:
    short = Finalist(Config(64, 32, 64, 1, 4, 3), (1.0,), routings=2)
    assert [f.config for f in ranked([*FINALISTS, short], 2, Robust.WORST)] == [
        f.config for f in ranked(FINALISTS, 2, Robust.WORST)
    ]
    assert needed_to_judge([short], 2, 1) == []
