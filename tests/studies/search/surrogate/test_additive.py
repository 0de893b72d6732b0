from __future__ import annotations

import numpy as np
import pytest
import scipy

from autotune.studies.search.surrogate import additive
from autotune.studies.search.surrogate.additive import with_alone
from autotune.studies.search.surrogate.candidates import candidates_of
from autotune.studies.search.surrogate.gp import Inputs, Kernel, matern
from autotune.studies.search.surrogate.hyperparameters import WEIGHT, _prior_mean, _Target
from autotune.studies.search.surrogate.model import Surrogate
from autotune.studies.search.surrogate.observations import Observed

UNIT = np.stack(np.meshgrid([0.0, 0.5, 1.0], [0.0, 1.0]), axis=-1).reshape(-1, 2)
"""[6, 2] all of two knobs with three values and two."""


@pytest.fixture
def at() -> Inputs:
    features = np.random.default_rng(0).normal(size=(len(UNIT), 1))
    return with_alone(Inputs.apart(UNIT, features), UNIT)


def test_each_knob_has_a_weight_of_its_own_beside_those_that_were_there(at: Inputs) -> None:
    assert at.group.tolist() == [0, 1, 1, 1, 2, 2]
    assert at.groups == 3
    assert at.take(np.array([2, 0])).group.tolist() == at.group.tolist()


def test_a_knobs_columns_are_its_covariance_less_its_mean(at: Inputs) -> None:
    for knob, unit in enumerate(UNIT.T):
        columns = at.linear[:, at.group == knob + 1] * WEIGHT
        plain = matern(((unit[:, None] - unit[None]) / additive._LENGTH) ** 2)
        centre = np.eye(len(unit)) - 1 / len(unit)
        assert columns @ columns.T == pytest.approx(centre @ plain @ centre, abs=1e-6)


def test_weights_scale_their_own_columns(at: Inputs) -> None:
    theta, more = _prior_mean(at), _prior_mean(at)
    more[-1] += np.log(2)
    rows = np.arange(len(UNIT))
    columns = at.linear[:, at.group == 2] * WEIGHT
    grown = Kernel(at, more).between(rows) - Kernel(at, theta).between(rows)
    assert grown == pytest.approx(3 * columns @ columns.T)
    assert Kernel(at, more).variance - Kernel(at, theta).variance == pytest.approx(np.diag(grown))


def test_the_slope_of_the_posterior_by_shared_weights(at: Inputs) -> None:
    values = np.random.default_rng(1).normal(size=len(UNIT))
    target = _Target(at, values, _prior_mean(at))
    theta = _prior_mean(at) + 0.2
    slope = scipy.optimize.approx_fprime(theta, lambda t: target(t)[0], 1e-6)
    assert target(theta)[1] == pytest.approx(slope, rel=1e-3, abs=1e-3)


def test_the_best_of_each_knob_is_believed_to_be_best_together() -> None:
    """Of 4 x 4 x 4 x 4, what was measured varies one knob at a time."""
    levels = np.stack(np.meshgrid(*[np.arange(4)] * 4, indexing="ij"), axis=-1).reshape(-1, 4)
    table = candidates_of([{f"k{i}": 2**v for i, v in enumerate(row)} for row in levels.tolist()])
    bumpy = np.array([0.0, 0.7, 0.2, 0.5])
    log_us = 3 + (bumpy[levels] * [0.5, 0.4, 0.3, 0.2]).sum(axis=1)
    rows = np.flatnonzero((levels != 3).sum(axis=1) <= 1)
    none = np.zeros(0, dtype=np.int64)
    known = np.ones(len(rows), dtype=bool)
    observed = Observed(rows, np.exp(log_us[rows]), known, none, none)
    unseen = np.setdiff1d(np.arange(len(levels)), rows)
    belief = Surrogate(table, None, 0).believe(observed, unseen)
    assert levels[belief.likely(1)[0]].tolist() == [0, 0, 0, 0]
    error = belief.processes[0].outlook.mean[unseen] - log_us[unseen]
    assert np.abs(error).mean() < 0.2 * log_us.std()
