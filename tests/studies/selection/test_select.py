"""Which config may be written, from trials' samples and from finalists' alike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from autotune.spec.config import Config
from autotune.studies.selection.finalists import Finalist
from autotune.studies.selection.paired_ratio import ratio
from autotune.studies.selection.select import Robust, Timed, Winner, beats, ranked, select_winner
from autotune.studies.trial_record import TrialRecord

DEFAULT, FAST, FILE = (Config(16, 32 * n, 64, 1) for n in (1, 2, 4))
ROUTINGS = (1.0, 1.1, 0.9, 1.05, 0.95)
"""Times vary with the routing instance by far more than configs differ."""
Make = Callable[[Config, tuple[float, ...]], Timed]


def _trial(config: Config, samples: tuple[float, ...]) -> Timed:
    return TrialRecord(config, samples, Finalist(config, samples).geomean_us, 0, True)


@pytest.fixture(params=[_trial, Finalist], ids=["trials", "finalists"])
def make(request: pytest.FixtureRequest) -> Make:
    made: Make = request.param
    return made


def _steady(us: float) -> tuple[float, ...]:
    return tuple(us * routing for routing in ROUTINGS)


def _noisy(us: float, noise: float) -> tuple[float, ...]:
    """``us`` in the geometric mean of the paired ratios to ``_steady(1)``."""
    own = (1 + noise, 1 / (1 + noise), 1 + noise, 1 / (1 + noise), 1.0)
    return tuple(us * routing * each for routing, each in zip(ROUTINGS, own, strict=True))


def _selected(winner: Winner | None) -> tuple[object, bool]:
    assert winner is not None
    return winner.config, winner.is_incumbent


def test_a_clear_win_over_every_incumbent(make: Make) -> None:
    timed = [make(DEFAULT, _steady(100)), make(FAST, _steady(80)), make(FILE, _steady(90))]
    winner = select_winner(timed, {DEFAULT, FILE})
    assert _selected(winner) == (FAST, False)
    assert winner is not None
    assert winner.speedup == pytest.approx(90 / 80)  # over the fastest incumbent, not the first
    assert winner.incumbent_us == pytest.approx(timed[2].geomean_us)


def test_the_fastest_incumbent_stays_where_nothing_beats_it(make: Make) -> None:
    timed = [make(DEFAULT, _steady(100)), make(FAST, _steady(90)), make(FILE, _steady(85))]
    winner = select_winner(timed, [DEFAULT, FILE], with_interval=True)
    assert _selected(winner) == (FILE, True)
    assert winner is not None
    assert (winner.speedup, winner.speedup_interval) == (1.0, None)


def test_faster_by_less_than_the_noise_loses_and_by_more_wins(make: Make) -> None:
    """The two challengers have the same time; only how it scatters tells them apart."""
    default = make(DEFAULT, _steady(100))
    sure, unsure = make(FAST, _noisy(98, 0.005)), make(FAST, _noisy(98, 0.05))
    for challenger in (sure, unsure):
        assert challenger.geomean_us == pytest.approx(98, rel=4e-3)
        found = ratio(challenger.samples_us, default.samples_us)
        assert found.middle == pytest.approx(0.98)
        assert (found.high < 1) is (challenger is sure)
    assert _selected(select_winner([default, sure], {DEFAULT})) == (FAST, False)
    assert _selected(select_winner([default, unsure], {DEFAULT})) == (DEFAULT, True)


def test_the_interval_of_a_speed_up_is_given_where_samples_are_enough(make: Make) -> None:
    timed = [make(DEFAULT, _steady(100)), make(FAST, _noisy(90, 0.01))]
    winner = select_winner(timed, {DEFAULT}, with_interval=True)
    assert winner is not None
    assert winner == select_winner(timed, {DEFAULT}, 1, with_interval=True)
    assert winner.speedup_interval is not None
    low, high = winner.speedup_interval
    assert 1 < low < 100 / 90 < high < 1.2
    alone = select_winner(timed, {DEFAULT})
    assert alone is not None
    assert alone.speedup_interval is None


def test_an_incumbent_that_cannot_run_does_not_count(make: Make) -> None:
    winner = select_winner([make(FAST, _steady(80)), make(FILE, _steady(70))], [DEFAULT])
    assert _selected(winner) == (FILE, False)
    assert winner is not None
    assert (winner.speedup, winner.incumbent_us) == (None, None)


@pytest.mark.parametrize("robust", Robust)
def test_nothing_measured_no_winner(robust: Robust) -> None:
    assert select_winner([], [DEFAULT], robust=robust, default=DEFAULT) is None


@dataclass(frozen=True)
class Samples:
    """A config's samples and nothing else."""

    samples_us: tuple[float, ...]
    config: Config = FAST
    geomean_us: float = 0.0


def test_beats_compares_routing_by_routing() -> None:
    slow = Samples((100.0, 200.0, 300.0))
    assert beats(Samples((99.0, 198.0, 297.0)), slow)
    assert not beats(slow, slow)
    assert not beats(Samples((101.0, 202.0, 303.0)), slow)


def test_beats_takes_each_routing_by_itself() -> None:
    other = Samples((100.0, 300.0) * 5)
    better = Samples((90.0, 297.0) * 5)  # 10 % under one routing, 1 % under the other
    assert beats(better, other, 2)
    assert not beats(Samples((120.0, 297.0) * 5), other, 2)  # on the whole it loses


def test_single_samples_are_taken_at_their_word() -> None:
    """Estimates and replays have no noise to speak of."""
    assert beats(Samples((99.0,)), Samples((100.0,)))
    assert not beats(Samples((100.0,)), Samples((100.0,)))
    assert beats(Samples((99.0, 299.0)), Samples((100.0, 300.0)), 2)
    assert not beats(Samples((99.0, 299.0, 110.0)), Samples((100.0, 300.0, 99.0)), 2)


def test_from_two_samples_of_a_routing_on_noise_counts() -> None:
    assert not beats(Samples((90.0, 105.0)), Samples((100.0, 100.0)))
    assert beats(Samples((90.0, 90.5)), Samples((100.0, 100.0)))
    assert not beats(Samples((90.0, 90.0, 105.0, 105.0)), Samples((100.0,) * 4), 2)


@pytest.mark.parametrize("samples", [1, 10], ids=["one sample", "ten"])
def test_within_a_margin_nothing_is_faster(samples: int) -> None:
    slow = Samples((100.0,) * samples)
    assert not beats(Samples((91.0,) * samples), slow, margin=0.1)
    assert beats(Samples((90.9,) * samples), slow, margin=0.1)


@pytest.mark.parametrize("robust", Robust)
def test_a_gain_within_the_margin_leaves_the_default(make: Make, robust: Robust) -> None:
    timed = [make(DEFAULT, _steady(100)), make(FAST, _steady(95))]
    winners = [
        select_winner(timed, {DEFAULT}, robust=robust, default=DEFAULT, margin=margin)
        for margin in (0.1, 0.05)
    ]
    assert [_selected(winner) for winner in winners] == [(DEFAULT, True), (FAST, False)]


LEVEL, PEAKED, BETWEEN, PLAIN = (Config(16, 32, 64, g, 4, 3) for g in range(1, 5))
TIMES = {LEVEL: (103.0, 103.0), PEAKED: (95.0, 110.0), BETWEEN: (101.0, 104.0)}
TIMES[PLAIN] = (120.0, 104.0)
"""µs under two routings, in which PEAKED and LEVEL are the fastest. In the mean PEAKED is; it loses
6.8 % at worst, BETWEEN 6.3 %."""


def _robust(
    timed: list[Timed], incumbents: set[Config], default: Config | None = PLAIN
) -> Winner | None:
    return select_winner(
        timed, incumbents, 2, robust=Robust.WORST, default=default, with_interval=True
    )


@pytest.fixture
def two_routings(make: Make) -> list[Timed]:
    return [make(config, us * 10) for config, us in TIMES.items()]


def test_the_worst_loss_or_the_mean_decides(two_routings: list[Timed]) -> None:
    winner = _robust(two_routings, {PLAIN})
    assert _selected(winner) == (BETWEEN, False)
    assert winner is not None
    assert winner.speedup_interval is not None
    assert winner.speedup_interval[0] == pytest.approx((120 * 104 / 101 / 104) ** 0.5)
    assert _selected(select_winner(two_routings, {PLAIN}, 2)) == (PEAKED, False)


def test_what_the_user_has_counts_by_its_worst_loss_too(two_routings: list[Timed]) -> None:
    """A file that was chosen by the mean must not stand in the way because of its mean."""
    assert _selected(_robust(two_routings, {PLAIN, PEAKED})) == (BETWEEN, False)
    assert _selected(_robust(two_routings, {PLAIN, BETWEEN})) == (BETWEEN, True)


def test_what_is_not_faster_than_the_default_is_never_taken(make: Make) -> None:
    """It would lose least at worst, but takes longer in the mean."""
    times = {LEVEL: (112.0, 112.0), PEAKED: (100.0, 160.0), PLAIN: (125.0, 99.0)}
    timed = [make(config, us * 10) for config, us in times.items()]
    assert ranked(timed, 2, Robust.WORST)[0].config == LEVEL
    for incumbents in ({PLAIN}, {PLAIN, LEVEL}):
        assert _selected(_robust(timed, incumbents)) == (PLAIN, True)


def test_an_incumbent_as_fast_as_the_default_may_lose_less_at_worst(make: Make) -> None:
    times = {LEVEL: (110.0, 110.0), PLAIN: (121.0, 100.0)}
    timed = [make(config, us * 10) for config, us in times.items()]
    assert _selected(_robust(timed, {PLAIN, LEVEL})) == (LEVEL, True)
    assert _selected(_robust(timed, {PLAIN})) == (PLAIN, True)  # not by more than the noise


def test_without_a_default_the_one_with_the_least_loss_is_taken(two_routings: list[Timed]) -> None:
    others = [one for one in two_routings if one.config is not PLAIN]
    for default in (PLAIN, None):
        winner = _robust(others, set(), default)
        assert _selected(winner) == (BETWEEN, False)
        assert winner is not None
        assert winner.incumbent_us is None


def test_a_default_that_lacks_a_routing_stays_where_nothing_else_is_whole() -> None:
    default = Finalist(PLAIN, (100.0,), 2)
    assert _selected(_robust([default], {PLAIN})) == (PLAIN, True)
