"""What is kept from row to row is what a process computed anew would say."""

from __future__ import annotations

import numpy as np
import pytest
import scipy

from autotune.studies.search.surrogate.gp import (
    Covariance,
    GaussianProcess,
    Inputs,
    _NegativeLogPosterior,
    _prior_mean,
    fit_hyperparameters,
)

POINTS, DIMENSIONS, FEATURES, SCALE = 40, 3, 2, 0.5


@pytest.fixture
def at() -> Inputs:
    rng = np.random.default_rng(0)
    return Inputs(rng.random((POINTS, DIMENSIONS)), rng.normal(size=(POINTS, FEATURES)))


@pytest.fixture
def covariance(at: Inputs) -> Covariance:
    return Covariance(at, _prior_mean(at) + np.random.default_rng(1).normal(size=7) * 0.3)


@pytest.fixture
def values() -> np.ndarray:
    return np.random.default_rng(2).normal(size=10)


ROWS = np.array([3, 17, 5, 30, 8, 21, 0, 11, 39, 25])


def learnt(covariance: Covariance, *steps: np.ndarray) -> GaussianProcess:
    process = GaussianProcess(covariance)
    for rows in steps:
        process.learn(rows)
    return process


def test_predictions_are_those_of_the_formula(covariance: Covariance, values: np.ndarray) -> None:
    every = np.arange(POINTS)
    posterior = learnt(covariance, ROWS).posterior(values, SCALE)
    noisy = covariance.between(ROWS, ROWS) + covariance.noise * np.eye(len(ROWS))
    across = covariance.between(ROWS, every)
    mean = across.T @ np.linalg.solve(noisy, values - values.mean()) + values.mean()
    variance = covariance.variance - np.diag(across.T @ np.linalg.solve(noisy, across))
    assert posterior.mean == pytest.approx(mean)
    assert posterior.deviation == pytest.approx(np.sqrt(np.maximum(variance, 0)) * SCALE, abs=1e-5)


def test_row_by_row_is_all_at_once(covariance: Covariance, values: np.ndarray) -> None:
    once = learnt(covariance, ROWS).posterior(values, SCALE)
    steps = learnt(covariance, ROWS[:1], ROWS[1:4], ROWS[:0], ROWS[4:]).posterior(values, SCALE)
    assert steps.mean == pytest.approx(once.mean)
    assert steps.variance == pytest.approx(once.variance)


def test_what_is_believed_counts_like_what_is_measured(
    covariance: Covariance, values: np.ndarray
) -> None:
    """Up to the level, which is the mean of what was measured."""
    shifted = values - values[:8].mean()
    shifted[8:] -= shifted[8:].mean()  # the level of all ten is that of the first eight
    measured = learnt(covariance, ROWS).posterior(shifted, SCALE)
    believed = learnt(covariance, ROWS[:8]).posterior(shifted[:8], SCALE)
    for row, value in zip(ROWS[8:], shifted[8:], strict=True):
        believed = believed.with_believed(int(row), float(value))
    assert believed.mean == pytest.approx(measured.mean)
    assert believed.variance == pytest.approx(measured.variance)


def test_held_out_errors_are_those_without_the_value(
    covariance: Covariance, values: np.ndarray
) -> None:
    centred = values - values.mean()
    error, deviation = learnt(covariance, ROWS).held_out(centred, SCALE)
    rest = np.delete(np.arange(len(ROWS)), 4)
    noisy = covariance.between(ROWS[rest], ROWS[rest]) + covariance.noise * np.eye(9)
    across = covariance.between(ROWS[rest], ROWS[4:5])[:, 0]
    foreseen = across @ np.linalg.solve(noisy, centred[rest])
    variance = (
        covariance.variance[ROWS[4]] + covariance.noise - across @ np.linalg.solve(noisy, across)
    )
    assert error[4] == pytest.approx(centred[4] - foreseen)
    assert deviation[4] == pytest.approx(np.sqrt(variance) * SCALE)


def test_the_slope_of_the_posterior_is_its_slope(at: Inputs, values: np.ndarray) -> None:
    prior = _prior_mean(at)
    target = _NegativeLogPosterior(at.take(ROWS), values - values.mean(), prior)
    hyperparameters = prior + 0.2
    slope = scipy.optimize.approx_fprime(hyperparameters, lambda t: target(t)[0], 1e-6)
    assert target(hyperparameters)[1] == pytest.approx(slope, rel=1e-3, abs=1e-3)


def test_a_fit_tells_a_knob_that_matters_from_one_that_does_not() -> None:
    rng = np.random.default_rng(3)
    at = Inputs(rng.random((60, 2)), np.zeros((60, 0)))
    hyperparameters = fit_hyperparameters(at, np.sin(6 * at.smooth[:, 0]), 1.0, None)
    assert hyperparameters[1] > hyperparameters[0] + 1  # log lengths
