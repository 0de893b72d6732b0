"""The model of log time: Gaussian processes and trees, weighed by their record.

observed ─► residual over the prior ─► process, trees ─┐ held-out likelihood
         └► prior as a feature ──────► process ────────┴─► shares ─► expected improvement
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from threadpoolctl import ThreadpoolController

from autotune.spec.arrays import Floats, Rows
from autotune.studies.search.surrogate.acquisition import Acquisition, GpPart, TreePart
from autotune.studies.search.surrogate.candidates import Candidates, Observed
from autotune.studies.search.surrogate.gp import (
    Covariance,
    GaussianProcess,
    Inputs,
    Posterior,
    fit_hyperparameters,
)
from autotune.studies.search.surrogate.trees import Trees, fit_trees

_REFIT_GROWTH = 1.1
"""Hyperparameters are fitted anew when the observations have grown by so much."""
_FEW = 6
"""Number of values that may be equal by chance."""
_WORST_DENSITY = -8.0
"""Least log density that counts: a single surprise must not decide between the models."""
_DOUBT = 5.0
"""Held-out errors of just the expected size that are assumed besides those seen."""
_SHORT_LIST = 5000
"""Candidates that the trees judge: the processes' best. A bound on time only."""
_LEAST_WEIGHT = 0.1
"""Least share of either kind of model: the loser of today may know another valley."""


@dataclass(frozen=True)
class Prior:
    """A guess of every candidate's log time, known before the study's own measurements."""

    log_us: Floats
    """Only differences count."""
    error: float
    """Expected deviation of a log time from the guess, after the level is known."""
    odds: float = 10.0
    """Odds of the guess being a good start against being just another feature."""


@dataclass(frozen=True)
class HeldOut:
    """Errors and deviations of predictions from all other values."""

    error: Floats
    deviation: Floats

    @property
    def log_density(self) -> Floats:
        """Log density of each value under its prediction."""
        density: Floats = -0.5 * (
            np.log(2 * np.pi * self.deviation**2) + (self.error / self.deviation) ** 2
        )
        return density

    @property
    def calibration(self) -> float:
        """Root mean square of errors in units of their deviations; never below one."""
        squared = (self.error / self.deviation) ** 2
        typical = (squared.sum() + _DOUBT) / (len(squared) + _DOUBT)
        return float(np.sqrt(max(typical, 1.0)))


class GpWithOffset:
    """A Gaussian process of the log times less an offset."""

    def __init__(self, candidates: Candidates, prior: Prior | None, *, trusts: bool) -> None:
        n = len(candidates)
        guess = np.zeros(n) if prior is None else prior.log_us - prior.log_us.min()
        column = np.zeros((n, 0)) if prior is None else _centred(guess)[:, None]
        self._at = Inputs(candidates.smooth, np.column_stack([candidates.features, column]))
        self.offset = guess if trusts else np.zeros(n)
        self._error = prior.error if prior is not None and trusts else None
        self._process: GaussianProcess | None = None
        self._fitted = 0

    def learn(self, rows: Rows, log_us: Floats) -> tuple[Posterior, HeldOut]:
        """Return the posterior of all candidates, and each value's prediction from the others."""
        values = log_us - self.offset[rows]
        scale = _spread(values) if self._error is None else self._error
        process = self._process_of(rows, values, scale)
        place = {row: i for i, row in enumerate(rows.tolist())}
        order = np.array([place[row] for row in process.rows.tolist()])
        error, deviation = np.empty(len(rows)), np.empty(len(rows))
        error[order], deviation[order] = process.held_out(values[order], scale)
        return process.posterior(values[order], scale), HeldOut(error, deviation)

    def _process_of(self, rows: Rows, values: Floats, scale: float) -> GaussianProcess:
        """Return the last process, having learnt what is new; another one where hyperparameters are
        due, or where the last one knows a row that is no longer measured."""
        last = self._process
        hyperparameters = None if last is None else last.covariance.hyperparameters
        if len(rows) >= self._fitted * _REFIT_GROWTH:
            hyperparameters = fit_hyperparameters(
                self._at.take(rows), values, scale, hyperparameters
            )
            self._fitted = len(rows)
        assert hyperparameters is not None
        is_fitted_anew = last is None or last.covariance.hyperparameters is not hyperparameters
        if last is None or is_fitted_anew or not np.isin(last.rows, rows).all():
            last = self._process = GaussianProcess(Covariance(self._at, hyperparameters))
        last.learn(rows[~np.isin(rows, last.rows)])
        return last


@dataclass(frozen=True)
class Fit:
    """Models fitted to the measurements, whatever is in work."""

    best: float
    gp_parts: tuple[GpPart, ...]
    calibration: float
    trees: Trees | None
    tree_share: float


class Surrogate:
    """Keeps hyperparameters and the last fit from one acquisition to the next: the only state.

    Where there is a prior, one process starts from it and a sceptic takes it as one feature
    among others: siblings may be wrong, and the record shows it.
    """

    def __init__(self, candidates: Candidates, prior: Prior | None, seed: int) -> None:
        self._seed = seed
        self._processes = [GpWithOffset(candidates, prior, trusts=True)]
        if prior is not None:
            self._processes.append(GpWithOffset(candidates, prior, trusts=False))
        self._offset = self._processes[0].offset
        self._trust = 0.0 if prior is None else float(np.log(prior.odds))
        split = [candidates.split] if prior is None else [candidates.split, self._offset]
        self._split = np.ascontiguousarray(np.column_stack(split), dtype=np.float32)
        self._last: tuple[bytes, Fit] | None = None

    def best_guesses(self, unseen: Rows, count: int) -> Rows:
        """Return where to begin when nothing is measured yet: the prior's best, best first."""
        return unseen[np.argsort(self._offset[unseen], kind="stable")[:count]]

    def acquisition(
        self, observed: Observed, unseen: Rows, weight: Floats | None = None
    ) -> Acquisition:
        """Return the expected improvement over ``unseen`` (a part of it, where it is large). At
        least one row must be measured. ``weight`` of each candidate: see ``acquisition.weights``.
        """
        fit = self._fit(observed)
        found = Acquisition(unseen, fit.best, fit.gp_parts, weight=weight)
        for row in observed.pending.tolist():
            found = found.with_pending(row)
        if fit.trees is None:
            return found
        rows = found.likely(_SHORT_LIST)
        mean, deviation = fit.trees.predict(self._split[rows])
        now, then = found.gp_parts[0].posterior, fit.gp_parts[0].posterior
        deviation *= now.deviation[rows] / then.deviation[rows]
        trees = TreePart(fit.tree_share, mean + self._offset[rows], deviation)
        return replace(found, rows=rows, trees=trees)

    def gains(self, observed: Observed, acquisition: Acquisition) -> Floats:
        """Return the share of the best time [acquisition.rows] that each is expected to save, if
        the processes are as wrong there as they were where times are known."""
        return acquisition.saving(self._fit(observed).calibration)

    def _fit(self, observed: Observed) -> Fit:
        state = observed.knowledge
        if self._last is None or self._last[0] != state:
            self._last = (state, self._learn(observed.rows, observed.log_us, observed.best))
        return self._last[1]

    def _learn(self, rows: Rows, log_us: Floats, best: float) -> Fit:
        learnt = [process.learn(rows, log_us) for process in self._processes]
        densities = [record.log_density for _, record in learnt]
        shares = _shares(densities, self._trust)
        calibration = float(shares @ [record.calibration for _, record in learnt])
        parts = tuple(
            GpPart(float(share), posterior, process.offset)
            for share, process, (posterior, _) in zip(shares, self._processes, learnt, strict=True)
        )
        if len(rows) < _FEW:
            return Fit(best, parts, calibration, None, 0.0)
        seed = int(np.random.default_rng((self._seed, len(rows))).integers(2**31))
        trees = fit_trees(self._split[rows], log_us - self._offset[rows], seed)
        together = np.log(shares @ np.exp(np.maximum(densities, _WORST_DENSITY)))
        weight = _weight(together, trees.held_out_log_likelihood)
        return Fit(best, parts, calibration, trees, 1 - weight)


def _shares(held_out: Sequence[Floats], trust: float) -> Floats:
    """Return each process's share by its record, tempered by √n since held-out errors of neighbours
    are no independent votes; the first is ``trust`` ahead in log odds."""
    record = np.maximum(np.array(held_out), _WORST_DENSITY)
    odds = record.sum(axis=1) / np.sqrt(record.shape[1])
    odds[0] += trust
    shares: Floats = np.exp(odds - odds.max())
    shares /= shares.sum()
    return shares


def _spread(values: Floats) -> float:
    """Return the standard deviation, of a few values at least 0.1: they may be equal by chance."""
    return max(float(values.std()), 0.1 if len(values) < _FEW else 1e-3)


def _weight(process: Floats, trees: Floats) -> float:
    """Return the processes' share: logistic in the difference of held-out log likelihood."""
    known = np.isfinite(trees)
    difference = process[known] - np.maximum(trees[known], _WORST_DENSITY)
    evidence = float(difference.sum()) / np.sqrt(max(len(process), 1))
    share = 1 / (1 + np.exp(-np.clip(evidence, -30, 30)))
    return float(np.clip(share, _LEAST_WEIGHT, 1 - _LEAST_WEIGHT))


def _centred(values: Floats) -> Floats:
    deviation = float(values.std())
    centred: Floats = (values - values.mean()) / (deviation or 1.0)
    return centred


@cache
def thread_pools() -> ThreadpoolController:
    """Return the controller of the threads of the libraries that models are fitted with. These are
    imported first, which takes a second: never for ``status``. Thread-safe."""
    import sklearn.tree  # noqa: F401

    return ThreadpoolController()
