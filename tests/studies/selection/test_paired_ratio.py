from __future__ import annotations

import random

import pytest
from scipy.special import stdtrit

from autotune.studies.selection.paired_ratio import _quantile, ratio


def _samples(us: float, count: int, seed: str, noise: float = 0.01) -> list[float]:
    """Routings make times vary together; ``noise`` is each config's own."""
    own, routing = random.Random(seed), random.Random(0)
    common = [routing.uniform(0.8, 1.2) for _ in range(10)]
    return [us * common[i % 10] * own.gauss(1, noise) for i in range(count)]


def test_pairs_see_what_means_cannot() -> None:
    found = ratio(_samples(100, 20, "one"), _samples(103, 20, "two"))
    assert found.low < found.middle < found.high < 1  # 3 % under routing noise of 20 %
    assert found.middle == pytest.approx(100 / 103, abs=0.01)


@pytest.mark.parametrize("count", [3, 10, 20])
def test_the_interval_holds_the_truth_19_times_of_20(count: int) -> None:
    held = 0
    for seed in range(400):
        one, two = _samples(100, count, f"{seed} one"), _samples(103, count, f"{seed} two")
        found = ratio(one, two)
        held += found.low <= 100 / 103 <= found.high
    assert 366 <= held <= 393


def test_of_several_routings_each_has_its_own_gain() -> None:
    """10 % under one and 1 % under the other is no noise."""
    found = ratio([90.0, 297.0] * 5, [100.0, 300.0] * 5, 2)
    assert found.low == pytest.approx(found.middle) == pytest.approx(found.high)
    assert found.middle == pytest.approx((0.9 * 0.99) ** 0.5)


def test_samples_without_a_partner_do_not_count() -> None:
    found = ratio([90.0, 91.0, 90.0], [100.0, 100.0, 100.0, 1.0])
    assert found == ratio([90.0, 91.0, 90.0], [100.0, 100.0, 100.0])


def test_two_pairs_of_each_routing_are_needed() -> None:
    found = ratio([90.0, 99.0], [100.0, 100.0])
    assert found.middle == pytest.approx((0.9 * 0.99) ** 0.5)
    assert found.low < 0.9
    assert found.high > 1
    assert ratio([90.0, 80.0, 99.0, 70.0], [100.0] * 4, 2).middle < 1
    with pytest.raises(ValueError, match="1 pairs"):
        ratio([1.0], [2.0])
    with pytest.raises(ValueError, match="3 pairs"):
        ratio([1.0] * 3, [2.0] * 3, 2)


def test_the_quantiles_are_scipys() -> None:
    for freedom in range(1, 80):
        assert _quantile(freedom) == pytest.approx(stdtrit(freedom, 0.975), rel=1e-9)
