"""A Gaussian process over a few hundred points: Matérn 5/2 with a scale per dimension.

k(x, x') = a² · Matérn(|x - x'| / l) + Σ w² f f' + constant, and noise. Hyperparameters are the
mode of marginal likelihood times log-normal priors: with ten points the priors speak, with a
hundred the data do.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy  # its modules load when first used, and take a quarter second
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_ROOT5 = np.sqrt(5.0)
_CONSTANT = 4.0
"""Prior variance of the level, in units of the values' variance: almost free."""
_JITTER = 1e-8
_LENGTH, _AMPLITUDE, _NOISE, _WEIGHT = 0.0, 0.0, np.log(0.03), np.log(0.3)
"""Prior means of the logarithms, in units of the knobs' span and the values' deviation. Recorded
times scatter by 0.2 to 6 %, medians of ten by a third of it."""
_PRIOR_SD = 1.0
_BOUND_SD = 4.0
_ITERATIONS = 25
"""Of L-BFGS from the last mode. 60 find the same on convolution A100 (20 seeds, at 100 trials:
0.89 both)."""


@dataclass(frozen=True)
class Inputs:
    """Points of a Gaussian process."""

    smooth: Floats
    """[n, d] what the Matérn term sees."""
    linear: Floats
    """[n, f] what the linear term sees; f may be 0."""

    def take(self, rows: NDArray[np.int64]) -> Inputs:
        return Inputs(self.smooth[rows], self.linear[rows])


class GaussianProcess:
    """Fitted to values at points. ``scale`` is the unit of the values."""

    def __init__(self, at: Inputs, values: Floats, scale: float, theta: Floats) -> None:
        self._at = at
        self._level = float(values.mean())
        self._scale = scale
        self.theta = theta
        standard = (values - self._level) / scale
        parts = _Parts(at, theta, _squared_differences(at.smooth))
        self._factor = np.linalg.cholesky(parts.covariance)
        self._weights = scipy.linalg.cho_solve((self._factor, True), standard)
        inverse = scipy.linalg.cho_solve((self._factor, True), np.eye(len(values)))
        self._held_out_variance = 1 / np.diag(inverse)

    @property
    def held_out_log_likelihood(self) -> Floats:
        """[n] log density of each value under the process fitted to the others."""
        error = self._weights * self._held_out_variance
        variance = self._held_out_variance
        density: Floats = -0.5 * (np.log(2 * np.pi * variance) + error**2 / variance)
        return density - float(np.log(self._scale))

    def predict(self, at: Inputs) -> tuple[Floats, Floats]:
        """Mean and standard deviation at [m] points."""
        d = at.smooth.shape[1]
        inverse_length = np.exp(-self.theta[:d])
        ours, theirs = self._at.smooth * inverse_length, at.smooth * inverse_length
        squared = (ours**2).sum(1)[:, None] + (theirs**2).sum(1)[None] - 2 * ours @ theirs.T
        amplitude, weights = np.exp(2 * self.theta[d]), np.exp(2 * self.theta[d + 2 :])
        cross = amplitude * _matern(np.maximum(squared, 0))
        cross += _CONSTANT + (self._at.linear * weights) @ at.linear.T
        variance = amplitude + _CONSTANT + at.linear**2 @ weights
        whitened = scipy.linalg.solve_triangular(
            self._factor, cross, lower=True, check_finite=False
        )
        left = np.maximum(variance - np.einsum("ij,ij->j", whitened, whitened), 1e-10)
        return cross.T @ self._weights * self._scale + self._level, np.sqrt(left) * self._scale


def fit_theta(at: Inputs, values: Floats, scale: float, start: Floats | None) -> Floats:
    """Hyperparameters (logarithms): d lengths, amplitude, noise, f weights."""
    prior = _prior_mean(at)
    target = _Target(at, (values - values.mean()) / scale, prior)
    bounds = [(mean - _BOUND_SD * _PRIOR_SD, mean + _BOUND_SD * _PRIOR_SD) for mean in prior]
    first = prior if start is None else start
    found = scipy.optimize.minimize(
        target, first, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": _ITERATIONS}
    )
    mode: Floats = found.x
    return mode


def _prior_mean(at: Inputs) -> Floats:
    d, f = at.smooth.shape[1], at.linear.shape[1]
    return np.concatenate([np.full(d, _LENGTH), [_AMPLITUDE, _NOISE], np.full(f, _WEIGHT)])


class _Target:
    """Negative log posterior of theta and its gradient."""

    def __init__(self, at: Inputs, standard: Floats, prior: Floats) -> None:
        self._at = at
        self._values = standard
        self._prior = prior
        self._squared = _squared_differences(at.smooth)

    def __call__(self, theta: Floats) -> tuple[float, Floats]:
        parts = _Parts(self._at, theta, self._squared)
        try:
            factor = np.linalg.cholesky(parts.covariance)
        except np.linalg.LinAlgError:
            return 1e10, np.zeros_like(theta)
        inverse = scipy.linalg.cho_solve(
            (factor, True), np.eye(len(self._values)), check_finite=False
        )
        alpha = inverse @ self._values
        fit = 0.5 * float(self._values @ alpha) + float(np.log(np.diag(factor)).sum())
        z = (theta - self._prior) / _PRIOR_SD
        slope = parts.gradient(0.5 * (inverse - np.outer(alpha, alpha)))
        return fit + 0.5 * float(z @ z), slope + z / _PRIOR_SD


class _Parts:
    """The covariance of the points under theta, and what its gradient needs."""

    def __init__(self, at: Inputs, theta: Floats, squared: Floats) -> None:
        d = at.smooth.shape[1]
        self._linear = at.linear
        self._squared = squared
        self._inverse_squared_length = np.exp(-2 * theta[:d])
        self._amplitude = np.exp(2 * theta[d])
        self._noise = np.exp(2 * theta[d + 1])
        self._weights = np.exp(2 * theta[d + 2 :])
        self._distance2 = squared @ self._inverse_squared_length
        self._matern = self._amplitude * _matern(self._distance2)
        self.covariance = self._matern + _CONSTANT + (at.linear * self._weights) @ at.linear.T
        self.covariance[np.diag_indices_from(self.covariance)] += self._noise + _JITTER

    def gradient(self, by_covariance: Floats) -> Floats:
        """d/dtheta of a function whose derivative by the covariance is given."""
        r = np.sqrt(self._distance2)
        slope = self._amplitude * (5 / 3) * (1 + _ROOT5 * r) * np.exp(-_ROOT5 * r)
        by_length = by_covariance * slope
        lengths = np.einsum("ij,ijk->k", by_length, self._squared) * self._inverse_squared_length
        amplitude = 2 * float((by_covariance * self._matern).sum())
        noise = 2 * self._noise * float(np.trace(by_covariance))
        weights = 2 * self._weights * ((by_covariance @ self._linear) * self._linear).sum(axis=0)
        return np.concatenate([lengths, [amplitude, noise], weights])


def _squared_differences(points: Floats) -> Floats:
    difference: Floats = (points[:, None, :] - points[None, :, :]) ** 2
    return difference


def _matern(distance2: Floats) -> Floats:
    r = np.sqrt(distance2)
    value: Floats = (1 + _ROOT5 * r + (5 / 3) * distance2) * np.exp(-_ROOT5 * r)
    return value
