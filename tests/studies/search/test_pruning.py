from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np
import pytest

from autotune.spec.config import Config, ConfigPair
from autotune.spec.measurement import typical_us
from autotune.studies.search.pruning import Stop, stop_for, taken
from autotune.studies.trial_record import TrialRecord

ROUTINGS = np.random.default_rng(0).uniform(0.9, 1.1, 10)
"""What routings do to every config alike: more than any difference that is tested."""
BEST = tuple((100.0 * routing,) for routing in ROUTINGS)


def slower(share: float, noise: float = 0.0, seed: int = 1) -> list[tuple[float]]:
    own = np.random.default_rng(seed).normal(0, noise, len(ROUTINGS))
    return [(us * (1 + share) * math.exp(e),) for (us,), e in zip(BEST, own, strict=True)]


def test_who_clearly_loses_is_stopped_early() -> None:
    kept, cut = taken(slower(0.3), 10, Stop(BEST))
    assert len(kept) == 1
    assert cut
    assert "30.0%" in cut.reason


def test_a_time_that_was_cut_short_is_that_of_all_routings() -> None:
    _, cut = taken(slower(0.3), 10, Stop(BEST))
    assert cut
    assert cut.geomean_us == pytest.approx(1.3 * typical_us([us for (us,) in BEST]))


def test_a_small_loss_needs_more_samples() -> None:
    counts = [len(taken(slower(share, 0.01), 10, Stop(BEST))[0]) for share in (0.2, 0.04, 0.001)]
    assert counts == sorted(counts)
    assert counts[0] < counts[1] < counts[2] == 10


@pytest.mark.parametrize("share", [0.0, -0.02, -0.3])
def test_who_is_as_good_or_better_is_measured_to_the_end(share: float) -> None:
    for seed in range(50):
        kept, cut = taken(slower(share, 0.02, seed), 10, Stop(BEST))
        if share < 0:
            assert (len(kept), cut) == (10, None)
    stopped = [taken(slower(share, 0.02, seed), 10, Stop(BEST))[1] for seed in range(200)]
    assert np.mean([cut is not None for cut in stopped]) < 0.15


def test_nothing_is_read_beyond_the_decision() -> None:
    read: list[int] = []

    def rows() -> Iterator[tuple[float]]:
        for number, row in enumerate(slower(0.5)):
            read.append(number)
            yield row

    assert len(taken(rows(), 10, Stop(BEST))[0]) == len(read) == 1


def test_with_its_last_sample_a_config_is_complete() -> None:
    kept, cut = taken(slower(0.5)[:1], 1, Stop(BEST))
    assert (len(kept), cut) == (1, None)


def test_without_a_best_all_is_read() -> None:
    assert taken(slower(9.0), 10, None) == (tuple(slower(9.0)), None)


def test_hopeless_ones_end_where_the_test_is_off() -> None:
    stop = Stop(BEST, is_paired=False)
    assert len(taken(slower(3.0), 10, stop)[0]) == 10
    kept, cut = taken(slower(4.5), 10, stop)
    assert len(kept) == 1
    assert cut
    assert "5.5 times" in cut.reason
    sooner = Stop(BEST, is_paired=False, hopeless=2.5)
    assert [len(taken(slower(share), 10, sooner)[0]) for share in (1.0, 2.0)] == [10, 1]


def test_a_pair_is_stopped_where_both_halves_lose() -> None:
    best = tuple((100.0 * routing, 50.0 * routing) for routing in ROUTINGS)

    def pair(up: float, down: float) -> list[tuple[float, float]]:
        return [(us * up, them * down) for us, them in best]

    outcomes = {
        shares: bool(taken(pair(*shares), 10, Stop(best))[1])
        for shares in itertools.product((0.9, 1.3), repeat=2)
    }
    assert outcomes == {(0.9, 0.9): False, (0.9, 1.3): False, (1.3, 0.9): False, (1.3, 1.3): True}


def test_the_best_is_the_fastest_complete_entry() -> None:
    config = Config(16, 32, 64, 1)
    entries = [
        TrialRecord(config, (30.0, 31.0), 30.5, 0, complete=True),
        TrialRecord(config, (20.0, 21.0), 20.5, 1, complete=True),
        TrialRecord(config, (10.0,), 10.0, 2, complete=False),
    ]
    assert stop_for(entries) == Stop(((20.0,), (21.0,)))
    assert stop_for(entries[2:]) is None


def test_of_a_pair_each_half_counts() -> None:
    config = Config(16, 32, 64, 1)
    entry = TrialRecord(ConfigPair(config, config), (30.0,), 30.0, 0, True, (20.0,), (10.0,))
    assert stop_for([entry]) == Stop(((20.0, 10.0),))


def _steady(share: float, count: int = 10) -> list[tuple[float]]:
    """Every sample slower than the best's by the same share: no noise of its own."""
    return [(us * (1 + share),) for (us,) in BEST[:count]]


@pytest.mark.parametrize(
    ("share", "samples"),
    [(0.063, 1), (0.061, 2), (0.038, 2), (0.037, 3), (0.0275, 3), (0.0268, 4), (0.018, 5)],
)
def test_how_many_samples_a_steady_loss_takes(share: float, samples: int) -> None:
    """Its logarithm must be two standard errors above 0. Before anything is known of a config its
    deviation is 0.03, which counts as three samples: 2 · √(3 · 0.03² / (2 + n) / n) is 0.06, 0.037,
    0.027, 0.021 and 0.018 for the first ones."""
    kept, cut = taken(_steady(share), 10, Stop(BEST))
    assert cut is not None
    assert len(kept) == samples


@pytest.mark.parametrize(("noise", "is_lost"), [(0.030, True), (0.035, False)])
def test_own_noise_makes_a_loss_less_certain(noise: float, is_lost: bool) -> None:
    """Two samples 5 % slower: 2 · √((2 · noise² + 0.0027) / 4 / 2) is 0.047 and 0.051."""
    rows = [(us * math.exp(0.05 + own),) for (us,), own in zip(BEST, (-noise, noise), strict=False)]
    assert bool(Stop(BEST).why(rows)) is is_lost
    assert not Stop(BEST).why(rows[:1])


def test_reasons_in_words() -> None:
    stop = Stop(BEST)
    assert stop.why(_steady(0.3, 1)) == "the first sample is 30.0% above the best's"
    assert stop.why(_steady(0.3, 2)) == "2 samples are 30.0% above the best's"
    assert stop.why(_steady(5.0, 1)) == "the first sample is 6.0 times the best's"
    pair = Stop(((100.0, 50.0),))
    assert pair.why([(120.0, 65.0)]) == "the first sample is 20.0% and 30.0% above the best's"


def test_five_times_the_best_is_not_yet_hopeless() -> None:
    stop = Stop(((100.0,), (100.0,)), is_paired=False)
    assert stop.why([(500.0,)]) == ""
    assert stop.why([(501.0,)]) != ""
    assert stop.why([(100.0,), (900.0,)]) == ""  # only the first sample is so hopeless
    assert Stop(BEST).why(_steady(0.0, 1)) == ""


def test_the_whole_time_of_several_routings_is_over_their_means() -> None:
    """Three samples of two routings: the mean of 10 and of 40 · 90 is taken first."""
    stop = Stop(((10.0,), (40.0,), (10.0,), (90.0,)), routings=2)
    whole = stop.whole_us([(11.0,), (44.0,)])
    assert whole == pytest.approx(1.1 * (10 * 60) ** 0.5)
    three = Stop(((10.0,), (40.0,), (10.0,)), routings=2)
    assert three.whole_us([(10.0,)]) == pytest.approx((10 * 40) ** 0.5)


def test_a_stop_knows_its_routings() -> None:
    entry = TrialRecord(Config(16, 32, 64, 1), (30.0, 31.0), 30.5, 0, complete=True, routings=2)
    assert stop_for([entry]) == Stop(((30.0,), (31.0,)), 2)
