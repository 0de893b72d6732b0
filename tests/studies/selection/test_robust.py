from __future__ import annotations

import pytest

from autotune.spec.config import Config
from autotune.studies.selection.finalists import Finalist, final_winner, pick, robust_winner
from autotune.studies.selection.robust import Robust, needed_to_judge, ranked, worst_losses
from autotune.studies.selection.select import choose_robust_winner
from autotune.studies.trial_record import Measured

LEVEL, PEAKED, BETWEEN, DEFAULT = (Config(16, 32, 64, g, 4, 3) for g in range(1, 5))
TIMES = {LEVEL: (103.0, 103.0), PEAKED: (95.0, 110.0), BETWEEN: (101.0, 104.0)}
TIMES[DEFAULT] = (120.0, 104.0)
"""µs under two routings, in which PEAKED and LEVEL are the fastest. In the mean PEAKED is; it loses
6.8 % at worst, BETWEEN 6.3 %."""

FINALISTS = [Finalist(config, us * 10, routings=2) for config, us in TIMES.items()]
ENTRIES = [
    Measured(f.config, f.samples_us, f.geomean_us, number, True, routings=2)
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


def test_finalists_and_trials_choose_alike() -> None:
    settled = robust_winner(FINALISTS, {DEFAULT}, DEFAULT)
    searched = choose_robust_winner(ENTRIES, {DEFAULT}, 2, DEFAULT)
    for winner in (settled, searched):
        assert winner is not None
        assert (winner.config, winner.is_incumbent) == (BETWEEN, False)
        assert winner.speedup == pytest.approx((120 * 104 / 101 / 104) ** 0.5)
    assert settled is not None
    assert settled.speedup_interval is not None
    mean = final_winner(FINALISTS, {DEFAULT})
    assert mean is not None
    assert mean.config == PEAKED


def test_what_the_user_has_counts_by_its_worst_loss_too() -> None:
    """A file that was chosen by the mean must not stand in the way because of its mean."""
    winner = robust_winner(FINALISTS, {DEFAULT, PEAKED}, DEFAULT)
    assert winner is not None
    assert (winner.config, winner.is_incumbent) == (BETWEEN, False)
    kept = robust_winner(FINALISTS, {DEFAULT, BETWEEN}, DEFAULT)
    assert kept is not None
    assert (kept.config, kept.is_incumbent) == (BETWEEN, True)


def test_what_is_not_faster_than_the_default_is_never_taken() -> None:
    """It would lose least at worst, but takes longer in the mean."""
    times = {LEVEL: (112.0, 112.0), PEAKED: (100.0, 160.0), DEFAULT: (125.0, 99.0)}
    finalists = [Finalist(c, us * 10, routings=2) for c, us in times.items()]
    assert ranked(finalists, 2, Robust.WORST)[0].config == LEVEL
    for incumbents in ({DEFAULT}, {DEFAULT, LEVEL}):
        winner = robust_winner(finalists, incumbents, DEFAULT)
        assert winner is not None
        assert (winner.config, winner.is_incumbent) == (DEFAULT, True)


def test_without_a_default_the_most_wanted_is_taken() -> None:
    others = [f for f in FINALISTS if f.config is not DEFAULT]
    rest = [e for e in ENTRIES if e.config is not DEFAULT]
    for choice in (robust_winner(others, (), DEFAULT), choose_robust_winner(rest, (), 2, None)):
        assert choice is not None
        assert (choice.config, choice.incumbent_us) == (BETWEEN, None)
    assert robust_winner([], (), DEFAULT) is None
    assert choose_robust_winner([], (), 2, DEFAULT) is None


def test_who_was_not_measured_under_every_routing_is_left_out() -> None:
    short = Finalist(Config(64, 32, 64, 1, 4, 3), (1.0,), routings=2)
    assert [f.config for f in ranked([*FINALISTS, short], 2, Robust.WORST)] == [
        f.config for f in ranked(FINALISTS, 2, Robust.WORST)
    ]
    assert needed_to_judge([short], 2, 1) == []
