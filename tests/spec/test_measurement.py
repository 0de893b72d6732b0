from __future__ import annotations

import pytest

from autotune.spec.measurement import Measurement, routing_us, typical_us


def test_one_routing_has_its_geometric_mean() -> None:
    assert typical_us((1.0, 4.0, 2.0)) == pytest.approx(2.0)
    assert Measurement((1.0, 4.0, 2.0), "test").geomean_us == pytest.approx(2.0)


def test_what_some_instances_cost_counts() -> None:
    """Mixtral-8x7B, 48 tokens, on an H200: four of ten routings need a second tile of 16 rows."""
    narrow = (353.0, 350.0, 351.0, 350.0, 396.0, 422.0, 352.0, 388.0, 390.0, 351.0)
    wide = (357.0, 358.0, 357.0, 358.0, 357.0, 358.0, 358.0, 356.0, 357.0, 357.0)
    assert typical_us(wide) < typical_us(narrow)


def test_several_routings_have_the_geometric_mean_of_theirs() -> None:
    samples = (1.0, 100.0, 4.0, 400.0)
    assert routing_us(samples, 2) == pytest.approx((2.0, 200.0))
    assert Measurement(samples, "test", routings=2).geomean_us == pytest.approx(20.0)


def test_what_was_given_up_has_the_routings_that_were_measured() -> None:
    assert typical_us((4.0, 9.0), 3) == pytest.approx(6.0)
    assert typical_us((4.0,), 3) == 4.0
