from __future__ import annotations

import pytest

from autotune.kernels.config import Config
from autotune.studies.finalists import Finalist, final_winner, pick
from autotune.studies.record import Measured
from autotune.studies.robust import Robust, needed_to_judge, ranked, worst_losses
from autotune.studies.winner import choose_winner

LEVEL, PEAKED, BETWEEN, DEFAULT = (Config(16, 32, 64, g, 4, 3) for g in range(1, 5))
TIMES = {LEVEL: (103.0, 103.0), PEAKED: (95.0, 110.0), BETWEEN: (101.0, 104.0)}
TIMES[DEFAULT] = (120.0, 104.0)
"""µs under two routings, in which PEAKED and LEVEL are the fastest. In the mean PEAKED is; it loses
6.8 % at worst, BETWEEN 6.3 %."""

FINALISTS = [Finalist(config, us * 10, routings=2) for config, us in TIMES.items()]
ENTRIES = [
    Measured(f.config, f.samples_us, f.mean_us, number, True, routings=2)
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
    monkeypatch.setattr("autotune.studies.finalists.FINALISTS", 1)
    assert pick(ENTRIES, {DEFAULT}) == [PEAKED, DEFAULT]
    assert pick(ENTRIES, {DEFAULT}, Robust.WORST, 2) == [PEAKED, BETWEEN, LEVEL, DEFAULT]
    assert pick([], {DEFAULT}, Robust.WORST, 2) == []


@pytest.mark.parametrize(("robust", "config"), [(Robust.MEAN, PEAKED), (Robust.WORST, BETWEEN)])
def test_finalists_and_trials_choose_alike(robust: Robust, config: Config) -> None:
    settled = final_winner(FINALISTS, {DEFAULT}, robust)
    searched = choose_winner(ENTRIES, {DEFAULT}, 2, robust)
    assert settled is not None
    assert searched is not None
    assert settled.config == searched.config == config


def test_what_is_not_faster_than_the_default_is_never_taken() -> None:
    """It would lose least at worst, but takes longer in the mean."""
    times = {LEVEL: (112.0, 112.0), PEAKED: (100.0, 160.0), DEFAULT: (125.0, 99.0)}
    finalists = [Finalist(c, us * 10, routings=2) for c, us in times.items()]
    assert ranked(finalists, 2, Robust.WORST)[0].config == LEVEL
    winner = final_winner(finalists, {DEFAULT}, Robust.WORST)
    assert winner is not None
    assert (winner.config, winner.is_incumbent) == (DEFAULT, True)


def test_without_a_default_the_most_wanted_is_taken() -> None:
    for choice in (final_winner(FINALISTS, (), Robust.WORST), choose_winner(ENTRIES, (), 2)):
        assert choice is not None
        assert choice.incumbent_us is None
    assert final_winner(FINALISTS, (), Robust.WORST).config == BETWEEN  # type: ignore[union-attr]
