"""What is believed about every candidate: a Gaussian process and trees, weighed by their record.

    observed ─► residual over the prior ─► process ─┐ held-out likelihood
                                       └─► trees ───┴─► weights ─► expected improvement
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from autotune.studies.surrogate.candidates import Candidates
from autotune.studies.surrogate.gp import GaussianProcess, Inputs, fit_theta
from autotune.studies.surrogate.observed import Observed
from autotune.studies.surrogate.trees import fit_trees

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]

_REFIT_GROWTH = 1.1
"""Hyperparameters are fitted anew when the observations have grown by so much."""
_TREES_FROM = 6
"""Observations below which held-out errors of trees say nothing."""
_SHORT_LIST = 2500
"""Candidates that trees judge: the process's best and half as many at random. All, up to that."""
_WORST_DENSITY = -8.0
"""A single surprise must not decide between the models."""
_LEAST_WEIGHT = 0.1
"""Neither model is ever silenced: the loser of today knows another valley."""


@dataclass(frozen=True)
class Prior:
    """A guess of every candidate's log time, known before the study's own measurements."""

    log_us: Floats
    """Only differences count."""
    error: float
    """Expected deviation of a log time from the guess, after the level is known."""


@dataclass(frozen=True)
class Belief:
    """Expected improvement of log time, and where."""

    rows: Rows
    gain: Floats

    @property
    def favourite(self) -> int:
        return int(self.rows[int(np.argmax(self.gain))])

    @property
    def expected_gain(self) -> float:
        """Share of the best time that the favourite is expected to save."""
        return float(-np.expm1(-self.gain.max())) if len(self.gain) else 0.0


class Surrogate:
    """Keeps hyperparameters from one belief to the next: the only state."""

    def __init__(self, candidates: Candidates, prior: Prior | None = None) -> None:
        self._candidates = candidates
        self._prior = prior
        n = len(candidates)
        self._offset = np.zeros(n) if prior is None else prior.log_us - prior.log_us.min()
        guess = np.zeros((n, 0)) if prior is None else _centred(self._offset)[:, None]
        self._linear = np.column_stack([candidates.features, guess])
        split = [candidates.split] if prior is None else [candidates.split, self._offset]
        self._split = np.ascontiguousarray(np.column_stack(split), dtype=np.float32)
        self._theta: Floats | None = None
        self._fitted = 0

    def guess(self, observed: Observed, unseen: Rows) -> int:
        """Where to begin when nothing is measured yet: the prior's best that is unlike what is in
        work, or any."""
        del observed
        return int(unseen[np.argmin(self._offset[unseen])])

    def believe(self, observed: Observed, unseen: Rows, rng: np.random.Generator) -> Belief:
        """Expected improvement over ``unseen`` (a part of it, where it is large)."""
        rows, values = observed.rows, observed.log_us - self._offset[observed.rows]
        process = self._process(rows, values)
        held_out = process.held_out_log_likelihood
        if len(observed.pending):
            believed = np.maximum(
                self._mean(process, observed.pending),
                observed.best - self._offset[observed.pending],
            )  # a belief is never better than what was measured
            rows = np.concatenate([rows, observed.pending])
            values = np.concatenate([values, believed])
            process = self._process(rows, values, refit=False)
        mean, deviation = process.predict(self._inputs(unseen))
        log_gain = _log_improvement(observed.best - self._offset[unseen] - mean, deviation)
        if len(rows) < _TREES_FROM:
            return Belief(unseen, np.exp(log_gain))
        kept = _short_list(log_gain, rng)
        return self._mixed(observed, rows, values, held_out, unseen[kept], np.exp(log_gain[kept]), rng)

    def _mixed(
        self,
        observed: Observed,
        rows: Rows,
        values: Floats,
        held_out: Floats,
        unseen: Rows,
        gain: Floats,
        rng: np.random.Generator,
    ) -> Belief:
        trees = fit_trees(self._split[rows], values, int(rng.integers(2**31)))
        weight = _weight(held_out, trees.held_out_log_likelihood[: len(held_out)])
        mean, deviation = trees.predict(self._split[unseen])
        log_gain = _log_improvement(observed.best - self._offset[unseen] - mean, deviation)
        return Belief(unseen, weight * gain + (1 - weight) * np.exp(log_gain))

    def _process(self, rows: Rows, values: Floats, *, refit: bool = True) -> GaussianProcess:
        at = self._inputs(rows)
        scale = max(float(values.std()), 1e-3) if self._prior is None else self._prior.error
        if self._theta is None or (refit and len(rows) >= self._fitted * _REFIT_GROWTH):
            self._theta = fit_theta(at, values, scale, self._theta)
            self._fitted = len(rows)
        return GaussianProcess(at, values, scale, self._theta)

    def _mean(self, process: GaussianProcess, rows: Rows) -> Floats:
        return process.predict(self._inputs(rows))[0]

    def _inputs(self, rows: Rows) -> Inputs:
        return Inputs(self._candidates.smooth[rows], self._linear[rows])


def _weight(process: Floats, trees: Floats) -> float:
    """The process's share: logistic in the difference of held-out log likelihood, tempered by
    √n, since held-out errors of neighbours are no independent votes."""
    known = np.isfinite(trees)
    difference = np.maximum(process[known], _WORST_DENSITY) - np.maximum(
        trees[known], _WORST_DENSITY
    )
    evidence = float(difference.sum()) / np.sqrt(max(len(process), 1))
    share = 1 / (1 + np.exp(-np.clip(evidence, -30, 30)))
    return float(np.clip(share, _LEAST_WEIGHT, 1 - _LEAST_WEIGHT))


def _short_list(log_gain: Floats, rng: np.random.Generator) -> Rows:
    if len(log_gain) <= _SHORT_LIST:
        return np.arange(len(log_gain))
    best = np.argpartition(-log_gain, _SHORT_LIST)[:_SHORT_LIST]
    return np.unique(np.concatenate([best, rng.integers(len(log_gain), size=_SHORT_LIST // 2)]))


def _log_improvement(lead: Floats, deviation: Floats) -> Floats:
    """log E[max(0, improvement)] of normals whose mean is ``lead`` better than the best."""
    z = lead / deviation
    density = np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi)
    gain: Floats = np.log(np.maximum(deviation * (z * ndtr(z) + density), 1e-300))
    return gain


def _centred(values: Floats) -> Floats:
    deviation = float(values.std())
    centred: Floats = (values - values.mean()) / (deviation or 1.0)
    return centred
