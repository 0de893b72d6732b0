from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np
import pytest

from autotune.spec.config import Config, ConfigPair
from autotune.spec.measurement import typical_us
from autotune.studies.search.pruning import Stop, stop_for, taken
from autotune.studies.trial_record import Measured

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
        Measured(config, (30.0, 31.0), 30.5, 0, complete=True),
        Measured(config, (20.0, 21.0), 20.5, 1, complete=True),
        Measured(config, (10.0,), 10.0, 2, complete=False),
    ]
    assert stop_for(entries) == Stop(((20.0,), (21.0,)))
    assert stop_for(entries[2:]) is None


def test_of_a_pair_each_half_counts() -> None:
    config = Config(16, 32, 64, 1)
    entry = Measured(ConfigPair(config, config), (30.0,), 30.0, 0, True, (20.0,), (10.0,))
    assert stop_for([entry]) == Stop(((20.0, 10.0),))
