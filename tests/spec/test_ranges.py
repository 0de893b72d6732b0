"""Ranges of numbers that enter."""

from __future__ import annotations

import math

import pytest

from autotune.errors import UsageError
from autotune.spec.ranges import SECONDS, Range


def test_a_whole_range_has_both_its_ends_and_nothing_that_is_not_whole() -> None:
    allowed = Range(0, 3)
    assert [number for number in (-1, 0, 3, 4, 1.0, True, "1", None) if number in allowed] == [0, 3]


@pytest.mark.parametrize("seconds", [0, -1.0, math.nan, math.inf, 1e300, 10**400])
def test_no_wait_is_of_a_time_that_cannot_pass(seconds: float) -> None:
    assert seconds not in SECONDS
    with pytest.raises(UsageError, match=r"--timeout is .*; it is a number from 0\.001 to"):
        SECONDS.check("--timeout", seconds)


def test_a_long_number_is_said_in_one_line() -> None:
    with pytest.raises(UsageError) as refused:
        SECONDS.check("--timeout", 10**400)
    assert len(str(refused.value)) < 120
