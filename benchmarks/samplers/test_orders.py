"""The next study to compile and the next row of an idle GPU, in the simulation of model_seconds.py.

pytest benchmarks/samplers
"""

from __future__ import annotations

import math

import numpy as np
from orders import next_compiled, next_study


def test_the_largest_gain_compiles_next() -> None:
    assert next_study([0.01, 0.03, 0.02], [5, 5, 5], least=0.005) == 1


def test_among_equals_the_one_with_the_fewest_trials_does() -> None:
    assert next_study([math.inf, 0.5, math.inf], [4, 0, 3], least=0.005) == 2
    assert next_study([0.1, 0.1], [2, 2], least=0.005) == 0


def test_nothing_compiles_for_less_than_is_wanted() -> None:
    assert next_study([0.004, 0.001], [1, 1], least=0.005) is None
    assert next_study([0.0, 0.0], [1, 1], least=0.0) is None
    assert next_study([], [], least=0.0) is None


def test_an_idle_gpu_takes_the_largest_gain_that_is_compiled() -> None:
    gains = [np.array([0.5, 0.02, 0.0]), np.array([0.9, 0.0, 0.03])]
    assert next_compiled(gains, np.array([1, 2]), least=0.01) == (1, 2)
    assert next_compiled(gains, np.array([1]), least=0.01) == (0, 1)


def test_an_idle_gpu_waits_where_nothing_is_worth_it() -> None:
    gains = [np.array([0.5, 0.0])]
    assert next_compiled(gains, np.array([1]), least=0.0) is None
    assert next_compiled(gains, np.array([0]), least=0.6) is None
    assert next_compiled(gains, np.array([], dtype=np.int64), least=0.0) is None
    assert next_compiled([], np.array([0]), least=0.0) is None
