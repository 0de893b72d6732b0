"""How the two kinds of model are weighed against each other."""

from __future__ import annotations

import numpy as np
import pytest

from autotune.studies.search.surrogate.candidates import Observed, candidates_of
from autotune.studies.search.surrogate.model import HeldOut, Surrogate, _shares, _weight

TABLE = candidates_of([{"tile": 2**i, "depth": d} for i in range(4, 9) for d in (1, 2, 4, 8)])


def test_neither_kind_of_model_is_ever_silenced() -> None:
    """However badly one foresaw what was measured, a tenth of the say is left to it."""
    good, bad = np.zeros(50), np.full(50, -8.0)
    assert _weight(good, bad) == pytest.approx(0.9)
    assert _weight(bad, good) == pytest.approx(0.1)
    assert _weight(good, good) == 0.5


def test_values_that_too_few_trees_can_judge_do_not_count() -> None:
    unknown = np.where(np.arange(50) < 25, np.nan, -1.0)
    assert _weight(np.full(50, -1.0), unknown) == 0.5


def test_one_surprise_does_not_decide_between_processes() -> None:
    steady, surprised = np.full(25, -1.0), np.zeros(25)
    surprised[0] = -1e6
    assert _shares([steady, surprised], 0.0)[1] > 0.9
    assert _shares([steady, steady], np.log(3.0)).tolist() == pytest.approx([0.75, 0.25])


def test_errors_beyond_their_deviation_widen_the_gains() -> None:
    deviation = np.full(20, 0.1)
    assert HeldOut(deviation / 2, deviation).calibration == 1.0
    assert HeldOut(3 * deviation, deviation).calibration == pytest.approx((185 / 25) ** 0.5)


def test_trees_speak_from_six_values_on() -> None:
    none = np.zeros(0, dtype=np.int64)
    for count in (5, 6):
        us = 100.0 + np.arange(count)
        observed = Observed(np.arange(count), us, np.ones(count, dtype=bool), none, none)
        found = Surrogate(TABLE, None, 0).acquisition(observed, np.arange(count, len(TABLE)))
        assert (found.trees is not None) is (count == 6)
