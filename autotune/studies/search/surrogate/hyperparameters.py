"""Hyperparameters of a Gaussian process: the mode of marginal likelihood times log-normal priors.

With ten points the priors speak, with a hundred the data do.
"""

from __future__ import annotations

import numpy as np
import scipy  # its modules load when first used

from autotune.spec.arrays import Floats
from autotune.studies.search.surrogate.gp import CONSTANT, JITTER, ROOT5, Inputs, matern

WEIGHT = 0.3
_LENGTH, _AMPLITUDE, _NOISE, _WEIGHT = 0.0, 0.0, np.log(0.03), np.log(WEIGHT)
"""Prior means of the logarithms, in units of the knobs' span and the values' deviation. Recorded
times scatter by 0.2 to 6 %, medians of ten by a third of it."""
_PRIOR_SD = 1.0
_BOUND_SD = 4.0
_ITERATIONS = 10
"""Of L-BFGS, from the last mode. 25 find the same on five recorded MoE spaces (20 seeds, at 30
trials: 0.9985 both)."""


def fit_hyperparameters(at: Inputs, values: Floats, scale: float, start: Floats | None) -> Floats:
    """Logarithms of d lengths, amplitude, noise and g weights; ``scale`` is the values' unit."""
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
    d, g = at.smooth.shape[1], at.groups
    return np.concatenate([np.full(d, _LENGTH), [_AMPLITUDE, _NOISE], np.full(g, _WEIGHT)])


class _Target:
    """Negative log posterior of theta and its gradient."""

    def __init__(self, at: Inputs, standard: Floats, prior: Floats) -> None:
        self._at = at
        self._values = standard
        self._prior = prior
        difference = at.smooth[:, None, :] - at.smooth[None, :, :]
        self._squared = (difference**2).reshape(-1, at.smooth.shape[1])

    def __call__(self, theta: Floats) -> tuple[float, Floats]:
        parts = _Parts(self._at, theta, self._squared)
        factor, failed = scipy.linalg.lapack.dpotrf(parts.covariance, lower=1)
        if failed:
            return 1e10, np.zeros_like(theta)
        lower, _ = scipy.linalg.lapack.dpotri(factor, lower=1)
        inverse = np.tril(lower) + np.tril(lower, -1).T
        alpha = inverse @ self._values
        fit = 0.5 * float(self._values @ alpha) + float(np.log(np.diag(factor)).sum())
        z = (theta - self._prior) / _PRIOR_SD
        slope = parts.gradient(0.5 * (inverse - np.outer(alpha, alpha)))
        return fit + 0.5 * float(z @ z), slope + z / _PRIOR_SD


class _Parts:
    """The covariance of the points under theta, and what its gradient needs."""

    def __init__(self, at: Inputs, theta: Floats, squared: Floats) -> None:
        """``squared`` [n · n, d] are the squared differences of each two points."""
        d, n = at.smooth.shape[1], len(at.smooth)
        self._linear, self._group, self._groups = at.linear, at.group, at.groups
        self._squared = squared
        self._inverse_squared_length = np.exp(-2 * theta[:d])
        self._amplitude = np.exp(2 * theta[d])
        self._noise = np.exp(2 * theta[d + 1])
        self._weights = np.exp(2 * theta[d + 2 :])[at.group]
        self._distance2 = (squared @ self._inverse_squared_length).reshape(n, n)
        self._matern = self._amplitude * matern(self._distance2)
        self.covariance = self._matern + CONSTANT + (at.linear * self._weights) @ at.linear.T
        self.covariance[np.diag_indices_from(self.covariance)] += self._noise + JITTER

    def gradient(self, by_covariance: Floats) -> Floats:
        """d/dtheta of a function whose derivative by the covariance is given."""
        r = np.sqrt(self._distance2) * ROOT5
        slope = self._amplitude * (5 / 3) * (1 + r) * np.exp(-r)
        by_length = (by_covariance * slope).reshape(-1)
        lengths = (by_length @ self._squared) * self._inverse_squared_length
        amplitude = 2 * float(np.vdot(by_covariance, self._matern))
        noise = 2 * self._noise * float(np.trace(by_covariance))
        columns = 2 * self._weights * ((by_covariance @ self._linear) * self._linear).sum(axis=0)
        weights = np.bincount(self._group, columns, minlength=self._groups)
        return np.concatenate([lengths, [amplitude, noise], weights])
