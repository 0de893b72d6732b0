from __future__ import annotations

import json
import math
import random

import pytest

from autotune.spec.config import Config
from autotune.studies.selection.finalists import (
    Finalist,
    as_json,
    from_json,
    pick,
    settled,
)
from autotune.studies.selection.paired_ratio import ratio
from autotune.studies.trial_record import TrialRecord

CONFIGS = [Config(16, 32, 64, group, 4, 3) for group in range(1, 10)]
DEFAULT = CONFIGS[-1]


def _finalist(config: Config, us: float, noise: float = 0.01, seed: int = 0) -> Finalist:
    """Routings make times vary together; ``noise`` is each config's own."""
    own, routing = random.Random(f"{seed} {config}"), random.Random(0)
    common = [routing.uniform(0.8, 1.2) for _ in range(10)] * 2
    return Finalist(config, tuple(us * c * own.gauss(1, noise) for c in common))


def test_the_best_and_every_measured_incumbent_are_picked() -> None:
    entries = [TrialRecord(c, (float(i),), float(i), i, True) for i, c in enumerate(CONFIGS)]
    entries.append(TrialRecord(Config(16, 32, 64, 64), (0.1,), 0.1, 9, False))  # pruned
    assert pick(entries, {DEFAULT}) == [*CONFIGS[:5], DEFAULT]
    assert pick(entries, {CONFIGS[1]}) == CONFIGS[:5]
    assert pick([], {DEFAULT}) == []


def test_settled_when_certain_or_even() -> None:
    clear = [_finalist(CONFIGS[0], 100), _finalist(CONFIGS[1], 110)]
    assert settled(clear) == [CONFIGS[1]]
    same = Finalist(CONFIGS[2], clear[0].samples_us)
    assert settled([clear[0], same]) == [CONFIGS[2]]
    assert not settled([_finalist(CONFIGS[0], 100, 0.1), _finalist(CONFIGS[1], 100.5, 0.1)])


@pytest.mark.parametrize(
    ("middle", "half", "is_settled"),
    [
        (0.99, 0.005, True),  # faster with certainty
        (0.99, 0.02, False),
        (0.9998, 0.001, True),  # as good as even: within 0.2 % with certainty
        (0.9998, 0.0016, True),
        (0.9998, 0.0019, False),
        (0.9983, 0.0019, False),  # certain to be below 1 + 0.2 %, not to be above 1 - 0.2 %
    ],
)
def test_settled_by_the_interval_of_the_ratio(middle: float, half: float, is_settled: bool) -> None:
    spread = half / 0.754  # ten pairs: Student's 2.262 of nine degrees, over three
    logs = [math.log(middle) + (spread if i % 2 else -spread) for i in range(10)]
    best = Finalist(CONFIGS[0], tuple(100 * math.exp(log) for log in logs))
    other = Finalist(CONFIGS[1], (100.0,) * 10)
    found = best.over(other)
    assert (found.middle - found.low, found.high - found.middle) == pytest.approx(
        (half, half), rel=0.03
    )
    assert settled([other, best]) == [CONFIGS[1]] * is_settled
    far = Finalist(CONFIGS[2], (200.0,) * 10)
    assert settled([other, far, best]) == [CONFIGS[1]] * is_settled + [CONFIGS[2]]


def test_the_fastest_is_not_among_what_is_settled() -> None:
    assert settled([_finalist(CONFIGS[0], 100)]) == []
    assert settled([]) == []


def test_nothing_is_settled_by_too_few_samples() -> None:
    samples = [(100.0, 101.0, 99.0), (200.0, 202.0, 198.0)]
    assert settled([Finalist(c, us) for c, us in zip(CONFIGS, samples, strict=False)])
    two = [Finalist(c, us, 2) for c, us in zip(CONFIGS, samples, strict=False)]
    assert settled(two) == []


def test_samples_are_kept_to_the_nanosecond() -> None:
    [row] = as_json([Finalist(CONFIGS[0], (1.23456, 2.0), 2)])
    assert (row["samples_us"], row["routings"]) == ([1.235, 2.0], 2)
    del row["routings"]  # as versions wrote that knew one routing
    assert from_json([row]) == [Finalist(CONFIGS[0], (1.235, 2.0))]
    assert Finalist(CONFIGS[0], (1.0, 4.0)).geomean_us == pytest.approx(2.0)


def test_json_and_back() -> None:
    finalists = [Finalist(CONFIGS[0], (1.0, 2.5)), Finalist(CONFIGS[1], (3.125, 4.0))]
    assert from_json(json.loads(json.dumps(as_json(finalists)))) == finalists


def test_a_gain_that_differs_between_routings_is_no_noise() -> None:
    """5 % under one, 20 % under the other, with hardly any noise in either."""
    rival = Finalist(DEFAULT, (100.0, 300.0) * 10, routings=2)
    gains = [(0.95 + 0.001 * (i % 3), 0.8 + 0.001 * (i % 3)) for i in range(10)]
    ours = tuple(us for one, two in gains for us in (100 * one, 300 * two))
    best = Finalist(CONFIGS[0], ours, routings=2)
    found = best.over(rival)
    assert found.middle == pytest.approx((0.951 * 0.801) ** 0.5, rel=2e-3)
    assert found.high - found.low < 0.01
    assert ratio(best.samples_us, rival.samples_us).high - found.middle > 0.03
    assert best.geomean_us == pytest.approx((95.1 * 240.3) ** 0.5, rel=1e-3)
    assert from_json(json.loads(json.dumps(as_json([best])))) == [
        Finalist(CONFIGS[0], tuple(round(us, 3) for us in ours), 2)
    ]
