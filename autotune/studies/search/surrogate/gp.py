"""A Gaussian process over an enumerated set: Matérn 5/2 with a scale per dimension.

k(x, x') = a² · Matérn(|x - x'| / l) + Σ w² f f' + constant, and noise; columns f may share a weight
w (see ``additive``). What is asked of it is always the same points, so what the measured ones say
about all of them is kept and a further measurement costs one row (O(measured · points)), not a new
factorisation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy  # its modules load when first used, and take a quarter second

from autotune.spec.arrays import Floats, Rows

ROOT5 = np.sqrt(5.0)
CONSTANT = 4.0
"""Prior variance of the level, in units of the values' variance: almost free."""
JITTER = 1e-6
"""Variance of noise that is always there: neighbours that no knob tells apart must not make the
covariance singular."""
_LEAST_VARIANCE = 1e-10


@dataclass(frozen=True)
class Inputs:
    """Points of a Gaussian process."""

    smooth: Floats
    """[n, d] what the Matérn term sees."""
    linear: Floats
    """[n, f] what the linear term sees; f may be 0."""
    group: Rows
    """[f] which of the g weights each column has: 0 to g - 1."""

    @classmethod
    def apart(cls, smooth: Floats, linear: Floats) -> Inputs:
        """With a weight for each column."""
        return cls(smooth, linear, np.arange(linear.shape[1]))

    @property
    def groups(self) -> int:
        """g."""
        return int(self.group.max(initial=-1)) + 1

    def take(self, rows: Rows) -> Inputs:
        return Inputs(self.smooth[rows], self.linear[rows], self.group)


@dataclass(frozen=True)
class Kernel:
    """Covariances between the points ``at`` under hyperparameters ``theta``: logarithms of d
    lengths, amplitude, noise and g weights."""

    at: Inputs
    theta: Floats

    @property
    def noise(self) -> float:
        return float(np.exp(2 * self.theta[self._d + 1])) + JITTER

    @cached_property
    def variance(self) -> Floats:
        """[n] before anything is known, without noise."""
        total: Floats = self._amplitude + CONSTANT + self.at.linear**2 @ self._weights
        return total

    def between(self, rows: Rows, others: Rows | None = None) -> Floats:
        """[len(rows), len(others)], without noise; all points where ``others`` is None."""
        every = slice(None) if others is None else others
        inner = self._scaled[rows] @ self._scaled[every].T
        squared = self._norms[rows][:, None] + self._norms[every][None] - 2 * inner
        covariance = self._amplitude * matern(np.maximum(squared, 0, out=squared))
        covariance += CONSTANT
        if self.at.linear.shape[1]:
            covariance += (self.at.linear[rows] * self._weights) @ self.at.linear[every].T
        return covariance

    @property
    def _d(self) -> int:
        return int(self.at.smooth.shape[1])

    @property
    def _amplitude(self) -> float:
        return float(np.exp(2 * self.theta[self._d]))

    @cached_property
    def _weights(self) -> Floats:
        weights: Floats = np.exp(2 * self.theta[self._d + 2 :])
        return weights[self.at.group]

    @cached_property
    def _scaled(self) -> Floats:
        scaled: Floats = self.at.smooth * np.exp(-self.theta[: self._d])
        return scaled

    @cached_property
    def _norms(self) -> Floats:
        norms: Floats = np.einsum("ij,ij->i", self._scaled, self._scaled)
        return norms


class GaussianProcess:
    """What measured rows say about all points. Values come later: they change with the best."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.rows: Rows = np.zeros(0, dtype=np.int64)
        """What was learnt, in that order."""
        self._factor = np.zeros((0, 0))
        self._whitened = np.zeros((0, len(kernel.variance)))
        self._explained = np.zeros(len(kernel.variance))

    def learn(self, rows: Rows) -> None:
        """Condition on further rows. Work: len(rows) · learnt · points."""
        if not len(rows):
            return
        count, old = len(self.rows), self._whitened[: len(self.rows)]
        across = old[:, rows]
        corner = self.kernel.between(rows, rows) - across.T @ across
        corner[np.diag_indices_from(corner)] += self.kernel.noise
        root = np.linalg.cholesky(corner)
        left = self.kernel.between(rows) - across.T @ old
        fresh = scipy.linalg.solve_triangular(root, left, lower=True, check_finite=False)
        self._reserve(count + len(rows))
        self._whitened[count : count + len(rows)] = fresh
        self._explained += np.einsum("ij,ij->j", fresh, fresh)
        self._factor = np.block(
            [[self._factor, np.zeros((count, len(rows)))], [across.T, root]],
        )
        self.rows = np.concatenate([self.rows, rows])

    def outlook(self, values: Floats, scale: float) -> Outlook:
        """What is believed of all points where the learnt rows have these values; ``scale`` is
        the values' unit."""
        level = float(values.mean())
        standard = (values - level) / scale
        seen = scipy.linalg.solve_triangular(self._factor, standard, lower=True, check_finite=False)
        mean = seen @ self._whitened[: len(self.rows)] * scale + level
        left = np.maximum(self.kernel.variance - self._explained, _LEAST_VARIANCE)
        return Outlook(self, scale, mean, left, ())

    def held_out(self, values: Floats, scale: float) -> tuple[Floats, Floats]:
        """Error and standard deviation of each value under the process that knows the others."""
        standard = (values - values.mean()) / scale
        root = scipy.linalg.solve_triangular(
            self._factor, np.eye(len(values)), lower=True, check_finite=False
        )
        variance = 1 / np.einsum("ij,ij->j", root, root)
        error = (root.T @ (root @ standard)) * variance
        return error * scale, np.sqrt(variance) * scale

    def covariance(self, row: int) -> Floats:
        """Of one point with all, after what was learnt."""
        old = self._whitened[: len(self.rows)]
        covariance: Floats = self.kernel.between(np.array([row]))[0] - old[:, row] @ old
        return covariance

    def _reserve(self, count: int) -> None:
        """Room for rows, doubled at need: appending one would copy all otherwise."""
        if count > len(self._whitened):
            room = np.empty((max(2 * len(self._whitened), count), self._whitened.shape[1]))
            room[: len(self.rows)] = self._whitened[: len(self.rows)]
            self._whitened = room


@dataclass(frozen=True)
class Outlook:
    """Mean and deviation of every point. Made by ``GaussianProcess.outlook``."""

    process: GaussianProcess
    scale: float
    mean: Floats
    variance: Floats
    """In units of scale²."""
    believed: Sequence[Floats]
    """[points] what each believed row explains."""

    @property
    def deviation(self) -> Floats:
        deviation: Floats = np.sqrt(self.variance) * self.scale
        return deviation

    def with_believed(self, row: int, value: float) -> Outlook:
        """As if ``row`` had been measured to have ``value``. Work: learnt · points."""
        covariance = self.process.covariance(row)
        for explained in self.believed:
            covariance -= explained[row] * explained
        unit = np.sqrt(self.variance[row] + self.process.kernel.noise)
        explained = covariance / unit
        mean = self.mean + explained * ((value - self.mean[row]) / unit)
        left = np.maximum(self.variance - explained**2, _LEAST_VARIANCE)
        return Outlook(self.process, self.scale, mean, left, (*self.believed, explained))


def matern(distance2: Floats) -> Floats:
    """Matérn 5/2 correlation at squared distances in units of length."""
    r = np.sqrt(distance2)
    r *= ROOT5
    value: Floats = np.exp(-r)
    r += 1
    r += (5 / 3) * distance2
    value *= r
    return value
