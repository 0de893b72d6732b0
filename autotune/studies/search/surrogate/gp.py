"""A Gaussian process over an enumerated set: Matérn 5/2 with a scale per dimension.

k(x, x') = a² · Matérn(|x - x'| / l) + Σ w² f f' + constant, and noise. It is always asked about the
same points, so what the measured ones say about all of them is kept and a further measurement
costs one row (O(measured · points)), not a new factorisation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy  # its modules load when first used, and take a quarter second

from autotune.spec.arrays import Floats, Rows

_ROOT5 = np.sqrt(5.0)
_CONSTANT = 4.0
"""Prior variance of the level, in units of the values' variance: almost free."""
_JITTER = 1e-6
"""Variance of noise that is always there: neighbours that no knob tells apart must not make the
covariance singular."""
_LEAST_VARIANCE = 1e-10
_LENGTH, _AMPLITUDE, _NOISE, _WEIGHT = 0.0, 0.0, np.log(0.03), np.log(0.3)
"""Prior means of the logarithms, in units of the knobs' span and the values' deviation. Recorded
times scatter by 0.2 to 6 %, medians of ten by a third of it."""
_PRIOR_SD = 1.0
_BOUND_SD = 4.0
_ITERATIONS = 10
"""Iterations of L-BFGS, from the last mode. 25 find the same on five recorded MoE spaces (20
seeds, at 30 trials: 0.9985 both)."""


@dataclass(frozen=True)
class Inputs:
    """Points of a Gaussian process."""

    smooth: Floats
    """[n, d] inputs of the Matérn term."""
    linear: Floats
    """[n, f] inputs of the linear term; f may be 0."""

    def take(self, rows: Rows) -> Inputs:
        """Return some of the points."""
        return Inputs(self.smooth[rows], self.linear[rows])


@dataclass(frozen=True)
class Covariance:
    """Covariances between the points ``at``."""

    at: Inputs
    hyperparameters: Floats
    """Logarithms of d lengths, amplitude, noise and f weights."""

    @property
    def noise(self) -> float:
        """Variance of a value's noise."""
        return float(np.exp(2 * self.hyperparameters[self._d + 1])) + _JITTER

    @cached_property
    def variance(self) -> Floats:
        """[n] prior variances, without noise."""
        total: Floats = self._amplitude + _CONSTANT + self.at.linear**2 @ self._weights
        return total

    def between(self, rows: Rows, others: Rows | None = None) -> Floats:
        """Return covariances [len(rows), len(others)] without noise; by default with all points."""
        every = slice(None) if others is None else others
        inner = self._scaled[rows] @ self._scaled[every].T
        squared = self._norms[rows][:, None] + self._norms[every][None] - 2 * inner
        covariance = self._amplitude * _matern(np.maximum(squared, 0, out=squared))
        covariance += _CONSTANT
        if self.at.linear.shape[1]:
            covariance += (self.at.linear[rows] * self._weights) @ self.at.linear[every].T
        return covariance

    @property
    def _d(self) -> int:
        return int(self.at.smooth.shape[1])

    @property
    def _amplitude(self) -> float:
        return float(np.exp(2 * self.hyperparameters[self._d]))

    @cached_property
    def _weights(self) -> Floats:
        weights: Floats = np.exp(2 * self.hyperparameters[self._d + 2 :])
        return weights

    @cached_property
    def _scaled(self) -> Floats:
        scaled: Floats = self.at.smooth * np.exp(-self.hyperparameters[: self._d])
        return scaled

    @cached_property
    def _norms(self) -> Floats:
        norms: Floats = np.einsum("ij,ij->i", self._scaled, self._scaled)
        return norms


class GaussianProcess:
    """A Gaussian process conditioned on rows. Values come later: they change with the best."""

    def __init__(self, covariance: Covariance) -> None:
        self.covariance = covariance
        self.rows: Rows = np.zeros(0, dtype=np.int64)
        """Rows that were learnt, in that order."""
        self._factor = np.zeros((0, 0))
        self._whitened = np.zeros((0, len(covariance.variance)))
        self._explained = np.zeros(len(covariance.variance))

    def learn(self, rows: Rows) -> None:
        """Condition on further rows. Work: len(rows) · learnt · points."""
        if not len(rows):
            return
        count, old = len(self.rows), self._whitened[: len(self.rows)]
        across = old[:, rows]
        corner = self.covariance.between(rows, rows) - across.T @ across
        corner[np.diag_indices_from(corner)] += self.covariance.noise
        root = np.linalg.cholesky(corner)
        left = self.covariance.between(rows) - across.T @ old
        fresh = scipy.linalg.solve_triangular(root, left, lower=True, check_finite=False)
        self._reserve(count + len(rows))
        self._whitened[count : count + len(rows)] = fresh
        self._explained += np.einsum("ij,ij->j", fresh, fresh)
        self._factor = np.block(
            [[self._factor, np.zeros((count, len(rows)))], [across.T, root]],
        )
        self.rows = np.concatenate([self.rows, rows])

    def posterior(self, values: Floats, scale: float) -> Posterior:
        """Return the posterior of all points given the learnt values in units of ``scale``."""
        level = float(values.mean())
        standard = (values - level) / scale
        seen = scipy.linalg.solve_triangular(self._factor, standard, lower=True, check_finite=False)
        mean = seen @ self._whitened[: len(self.rows)] * scale + level
        left = np.maximum(self.covariance.variance - self._explained, _LEAST_VARIANCE)
        return Posterior(self, scale, mean, left, ())

    def held_out(self, values: Floats, scale: float) -> tuple[Floats, Floats]:
        """Return each value's error and standard deviation under the process without it."""
        standard = (values - values.mean()) / scale
        root = scipy.linalg.solve_triangular(
            self._factor, np.eye(len(values)), lower=True, check_finite=False
        )
        variance = 1 / np.einsum("ij,ij->j", root, root)
        error = (root.T @ (root @ standard)) * variance
        return error * scale, np.sqrt(variance) * scale

    def posterior_covariance(self, row: int) -> Floats:
        """Return the covariances of one point with all, given the learnt rows."""
        old = self._whitened[: len(self.rows)]
        covariance: Floats = self.covariance.between(np.array([row]))[0] - old[:, row] @ old
        return covariance

    def _reserve(self, count: int) -> None:
        """Make room for rows, doubled at need: appending one would copy all otherwise."""
        if count > len(self._whitened):
            room = np.empty((max(2 * len(self._whitened), count), self._whitened.shape[1]))
            room[: len(self.rows)] = self._whitened[: len(self.rows)]
            self._whitened = room


@dataclass(frozen=True)
class Posterior:
    """Mean and deviation of every point. Made by ``GaussianProcess.posterior``."""

    process: GaussianProcess
    scale: float
    mean: Floats
    variance: Floats
    """Variances in units of scale²."""
    believed: Sequence[Floats]
    """[points] share of the covariance that each believed row explains."""

    @property
    def deviation(self) -> Floats:
        """Standard deviation of each point."""
        deviation: Floats = np.sqrt(self.variance) * self.scale
        return deviation

    def with_believed(self, row: int, value: float) -> Posterior:
        """Return the posterior as if ``row`` had that ``value``. Work: learnt · points."""
        covariance = self.process.posterior_covariance(row)
        for explained in self.believed:
            covariance -= explained[row] * explained
        unit = np.sqrt(self.variance[row] + self.process.covariance.noise)
        explained = covariance / unit
        mean = self.mean + explained * ((value - self.mean[row]) / unit)
        left = np.maximum(self.variance - explained**2, _LEAST_VARIANCE)
        return Posterior(self.process, self.scale, mean, left, (*self.believed, explained))


def fit_hyperparameters(at: Inputs, values: Floats, scale: float, start: Floats | None) -> Floats:
    """Return the mode of the marginal likelihood times log-normal priors, started from ``start``;
    ``scale`` is the values' unit. With ten points the priors speak, with a hundred the data do."""
    prior = _prior_mean(at)
    objective = _NegativeLogPosterior(at, (values - values.mean()) / scale, prior)
    bounds = [(mean - _BOUND_SD * _PRIOR_SD, mean + _BOUND_SD * _PRIOR_SD) for mean in prior]
    first = prior if start is None else start
    found = scipy.optimize.minimize(
        objective,
        first,
        jac=True,
        method="L-BFGS-B",
        bounds=bounds,
        options={"maxiter": _ITERATIONS},
    )
    mode: Floats = found.x
    return mode


def _prior_mean(at: Inputs) -> Floats:
    d, f = at.smooth.shape[1], at.linear.shape[1]
    return np.concatenate([np.full(d, _LENGTH), [_AMPLITUDE, _NOISE], np.full(f, _WEIGHT)])


class _NegativeLogPosterior:
    """Negative log posterior of hyperparameters, and its gradient."""

    def __init__(self, at: Inputs, standard: Floats, prior: Floats) -> None:
        self._at = at
        self._values = standard
        self._prior = prior
        difference = at.smooth[:, None, :] - at.smooth[None, :, :]
        self._squared = (difference**2).reshape(-1, at.smooth.shape[1])

    def __call__(self, hyperparameters: Floats) -> tuple[float, Floats]:
        parts = _Parts(self._at, hyperparameters, self._squared)
        factor, failed = scipy.linalg.lapack.dpotrf(parts.covariance, lower=1)
        if failed:
            return 1e10, np.zeros_like(hyperparameters)
        lower, _ = scipy.linalg.lapack.dpotri(factor, lower=1)
        inverse = np.tril(lower) + np.tril(lower, -1).T
        alpha = inverse @ self._values
        fit = 0.5 * float(self._values @ alpha) + float(np.log(np.diag(factor)).sum())
        z = (hyperparameters - self._prior) / _PRIOR_SD
        slope = parts.gradient(0.5 * (inverse - np.outer(alpha, alpha)))
        return fit + 0.5 * float(z @ z), slope + z / _PRIOR_SD


class _Parts:
    """The covariance of the points under hyperparameters, and the parts of its gradient."""

    def __init__(self, at: Inputs, hyperparameters: Floats, squared: Floats) -> None:
        """``squared`` [n · n, d] are the squared differences of each two points."""
        d, n = at.smooth.shape[1], len(at.smooth)
        self._linear = at.linear
        self._squared = squared
        self._inverse_squared_length = np.exp(-2 * hyperparameters[:d])
        self._amplitude = np.exp(2 * hyperparameters[d])
        self._noise = np.exp(2 * hyperparameters[d + 1])
        self._weights = np.exp(2 * hyperparameters[d + 2 :])
        self._distance2 = (squared @ self._inverse_squared_length).reshape(n, n)
        self._matern = self._amplitude * _matern(self._distance2)
        self.covariance = self._matern + _CONSTANT + (at.linear * self._weights) @ at.linear.T
        self.covariance[np.diag_indices_from(self.covariance)] += self._noise + _JITTER

    def gradient(self, by_covariance: Floats) -> Floats:
        """Return the gradient of a function whose derivative by the covariance is given."""
        r = np.sqrt(self._distance2) * _ROOT5
        slope = self._amplitude * (5 / 3) * (1 + r) * np.exp(-r)
        by_length = (by_covariance * slope).reshape(-1)
        lengths = (by_length @ self._squared) * self._inverse_squared_length
        amplitude = 2 * float(np.vdot(by_covariance, self._matern))
        noise = 2 * self._noise * float(np.trace(by_covariance))
        weights = 2 * self._weights * ((by_covariance @ self._linear) * self._linear).sum(axis=0)
        return np.concatenate([lengths, [amplitude, noise], weights])


def _matern(distance2: Floats) -> Floats:
    """Return the Matérn 5/2 correlation at squared distances in units of length."""
    r = np.sqrt(distance2)
    r *= _ROOT5
    value: Floats = np.exp(-r)
    r += 1
    r += (5 / 3) * distance2
    value *= r
    return value
