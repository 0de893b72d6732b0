from __future__ import annotations

import pytest

from autotune.kernels.measurement import Measurement, routing_us, typical_us


def test_one_routing_has_its_median() -> None:
    assert typical_us((3.0, 1.0, 2.0)) == 2.0
    assert Measurement((3.0, 1.0, 2.0), "test").median_us == 2.0


def test_several_routings_have_the_geometric_mean_of_their_medians() -> None:
    samples = (1.0, 100.0, 2.0, 400.0, 9.0, 200.0)
    assert routing_us(samples, 2) == (2.0, 200.0)
    assert Measurement(samples, "test", routings=2).median_us == pytest.approx(20.0)


def test_what_was_given_up_has_the_routings_that_were_measured() -> None:
    assert typical_us((4.0, 9.0), 3) == pytest.approx(6.0)
    assert typical_us((4.0,), 3) == 4.0
