"""What is believed about every candidate: a Gaussian process and trees, weighed by their record.

observed ─► residual over the prior ─► process ─┐ held-out likelihood
                                   └─► trees ───┴─► weights ─► expected improvement
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy  # its modules load when first used
from numpy.typing import NDArray

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
_SHORT_LIST = 5000
"""Candidates that trees judge: the process's best and half as many at random; all, up to that.
A bound on time only: 2,500 do no worse on convolution A100 (4,362 candidates, 20 seeds)."""
_WORST_DENSITY = -8.0
"""A single surprise must not decide between the models."""
_TINY = 1e-12
_LEAST_WEIGHT = 0.1
"""Neither model is ever silenced: the loser of today may know another valley. A guess: either
model alone does as well on convolution A100, within its noise."""


@dataclass(frozen=True)
class Prior:
    """A guess of every candidate's log time, known before the study's own measurements."""

    log_us: Floats
    """Only differences count."""
    error: float
    """Expected deviation of a log time from the guess, after the level is known."""
    odds: float = 10.0
    """Of the guess being a good start against being just another feature."""


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


class _View:
    """A Gaussian process over what is left of the log times when an offset is taken away."""

    def __init__(self, candidates: Candidates, prior: Prior | None, *, trusts: bool) -> None:
        self._candidates = candidates
        n = len(candidates)
        guess = np.zeros(n) if prior is None else prior.log_us - prior.log_us.min()
        column = np.zeros((n, 0)) if prior is None else _centred(guess)[:, None]
        self._linear = np.column_stack([candidates.features, column])
        self.offset = guess if trusts else np.zeros(n)
        self._error = prior.error if prior is not None and trusts else None
        self._theta: Floats | None = None
        self._fitted = 0

    def fit(self, rows: Rows, log_us: Floats, *, refit: bool = True) -> GaussianProcess:
        at, values = self.inputs(rows), log_us - self.offset[rows]
        scale = _spread(values) if self._error is None else self._error
        if self._theta is None or (refit and len(rows) >= self._fitted * _REFIT_GROWTH):
            self._theta = fit_theta(at, values, scale, self._theta)
            self._fitted = len(rows)
        return GaussianProcess(at, values, scale, self._theta)

    def mean(self, process: GaussianProcess, rows: Rows) -> Floats:
        """Believed log times."""
        return process.predict(self.inputs(rows))[0] + self.offset[rows]

    def gain(self, process: GaussianProcess, rows: Rows, best: float) -> Floats:
        mean, deviation = process.predict(self.inputs(rows))
        return _improvement(best - self.offset[rows] - mean, deviation)

    def inputs(self, rows: Rows) -> Inputs:
        return Inputs(self._candidates.smooth[rows], self._linear[rows])


class Surrogate:
    """Keeps hyperparameters from one belief to the next: the only state.

    Where there is a prior, one process starts from it and a sceptic takes it as one feature
    among others: siblings may be wrong, and the record shows it.
    """

    def __init__(self, candidates: Candidates, prior: Prior | None = None) -> None:
        self._views = [_View(candidates, prior, trusts=True)]
        if prior is not None:
            self._views.append(_View(candidates, prior, trusts=False))
        self._offset = self._views[0].offset
        self._trust = 0.0 if prior is None else float(np.log(prior.odds))
        split = [candidates.split] if prior is None else [candidates.split, self._offset]
        self._split = np.ascontiguousarray(np.column_stack(split), dtype=np.float32)

    def guess(self, unseen: Rows) -> int:
        """Where to begin when nothing is measured yet: the prior's best."""
        return int(unseen[np.argmin(self._offset[unseen])])

    def believe(self, observed: Observed, unseen: Rows, rng: np.random.Generator) -> Belief:
        """Expected improvement over ``unseen`` (a part of it, where it is large)."""
        rows, log_us = observed.rows, observed.log_us
        processes = [view.fit(rows, log_us) for view in self._views]
        records = [process.held_out_log_likelihood for process in processes]
        shares, held_out = _shares(records, self._trust)
        if len(observed.pending):
            believed = sum(
                share * view.mean(process, observed.pending)
                for share, view, process in zip(shares, self._views, processes, strict=True)
            )
            rows = np.concatenate([rows, observed.pending])
            # What is only believed is never better than what was measured.
            log_us = np.concatenate([log_us, np.maximum(believed, observed.best)])
            processes = [view.fit(rows, log_us, refit=False) for view in self._views]
        gain = np.zeros(len(unseen))
        for share, view, process in zip(shares, self._views, processes, strict=True):
            gain += share * view.gain(process, unseen, observed.best)
        if len(rows) < _TREES_FROM:
            return Belief(unseen, gain)
        kept = _short_list(gain, rng)
        unseen, gain = unseen[kept], gain[kept]
        trees = fit_trees(self._split[rows], log_us - self._offset[rows], int(rng.integers(2**31)))
        weight = _weight(held_out, trees.held_out_log_likelihood[: len(held_out)])
        mean, deviation = trees.predict(self._split[unseen])
        other = _improvement(observed.best - self._offset[unseen] - mean, deviation)
        return Belief(unseen, weight * gain + (1 - weight) * other)


def _shares(held_out: Sequence[Floats], trust: float) -> tuple[Floats, Floats]:
    """Share of each view, the first being ``trust`` ahead in log odds, and the held-out log
    likelihood of their mixture."""
    record = np.maximum(np.array(held_out), _WORST_DENSITY)
    odds = record.sum(axis=1) / np.sqrt(record.shape[1])
    odds[0] += trust
    shares = np.exp(odds - odds.max())
    shares /= shares.sum()
    return shares, np.log(shares @ np.exp(record))


def _spread(values: Floats) -> float:
    """Standard deviation; of a few values at least a tenth, since they may be equal by chance."""
    return max(float(values.std()), 0.1 if len(values) < _TREES_FROM else 1e-3)


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


def _short_list(gain: Floats, rng: np.random.Generator) -> Rows:
    if len(gain) <= _SHORT_LIST:
        return np.arange(len(gain))
    best = np.argpartition(-gain, _SHORT_LIST)[:_SHORT_LIST]
    return np.unique(np.concatenate([best, rng.integers(len(gain), size=_SHORT_LIST // 2)]))


def _improvement(lead: Floats, deviation: Floats) -> Floats:
    """E[max(0, improvement)] of normals whose mean is ``lead`` better than the best; where that
    underflows, the order is still that of ``lead``."""
    z = lead / deviation
    density = np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi)
    gain: Floats = np.maximum(
        deviation * (z * scipy.special.ndtr(z) + density), 0
    ) + _TINY * np.exp(lead)
    return gain


def _centred(values: Floats) -> Floats:
    deviation = float(values.std())
    centred: Floats = (values - values.mean()) / (deviation or 1.0)
    return centred
