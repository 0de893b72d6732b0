"""What is believed about every candidate: a Gaussian process and trees, weighed by their record.

observed ─► residual over the prior ─► process ─┐ held-out likelihood
                                   └─► trees ───┴─► weights ─► expected improvement
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from autotune.studies.surrogate.belief import Belief, Process, Votes
from autotune.studies.surrogate.candidates import Candidates
from autotune.studies.surrogate.gp import GaussianProcess, Inputs, Kernel, Outlook
from autotune.studies.surrogate.observed import Observed
from autotune.studies.surrogate.theta import fit_theta
from autotune.studies.surrogate.trees import Trees, fit_trees

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


class _View:
    """A Gaussian process over what is left of the log times when an offset is taken away."""

    def __init__(self, candidates: Candidates, prior: Prior | None, *, trusts: bool) -> None:
        n = len(candidates)
        guess = np.zeros(n) if prior is None else prior.log_us - prior.log_us.min()
        column = np.zeros((n, 0)) if prior is None else _centred(guess)[:, None]
        self._at = Inputs(candidates.smooth, np.column_stack([candidates.features, column]))
        self.offset = guess if trusts else np.zeros(n)
        self._error = prior.error if prior is not None and trusts else None
        self._process: GaussianProcess | None = None
        self._fitted = 0

    def learn(self, rows: Rows, log_us: Floats) -> tuple[Outlook, Floats]:
        """Beliefs of all candidates, and the held-out log likelihood of each value."""
        values = log_us - self.offset[rows]
        scale = _spread(values) if self._error is None else self._error
        process = self._process_of(rows, values, scale)
        place = {row: i for i, row in enumerate(rows.tolist())}
        order = np.array([place[row] for row in process.rows.tolist()])
        error, deviation = process.held_out(values[order], scale)
        density = np.empty(len(rows))
        density[order] = _log_density(error, deviation)
        return process.outlook(values[order], scale), density

    def _process_of(self, rows: Rows, values: Floats, scale: float) -> GaussianProcess:
        """The last process, having learnt what is new; another one where hyperparameters are due,
        or where the last one knows what is no longer so."""
        last = self._process
        theta = None if last is None else last.kernel.theta
        if len(rows) >= self._fitted * _REFIT_GROWTH:
            theta = fit_theta(self._at.take(rows), values, scale, theta)
            self._fitted = len(rows)
        assert theta is not None
        if last is None or last.kernel.theta is not theta or not np.isin(last.rows, rows).all():
            last = self._process = GaussianProcess(Kernel(self._at, theta))
        last.learn(rows[~np.isin(rows, last.rows)])
        return last


@dataclass(frozen=True)
class _Lesson:
    """What measurements teach, whatever is in work."""

    best: float
    processes: tuple[Process, ...]
    trees: Trees | None
    trees_share: float


class Surrogate:
    """Keeps hyperparameters and the last lesson from one belief to the next: the only state.

    Where there is a prior, one process starts from it and a sceptic takes it as one feature
    among others: siblings may be wrong, and the record shows it.
    """

    def __init__(self, candidates: Candidates, prior: Prior | None, seed: int) -> None:
        self._seed = seed
        self._views = [_View(candidates, prior, trusts=True)]
        if prior is not None:
            self._views.append(_View(candidates, prior, trusts=False))
        self._offset = self._views[0].offset
        self._trust = 0.0 if prior is None else float(np.log(prior.odds))
        split = [candidates.split] if prior is None else [candidates.split, self._offset]
        self._split = np.ascontiguousarray(np.column_stack(split), dtype=np.float32)
        self._last: tuple[bytes, _Lesson] | None = None

    def best_guesses(self, unseen: Rows, count: int) -> Rows:
        """Where to begin when nothing is measured yet: the prior's best, best first."""
        return unseen[np.argsort(self._offset[unseen], kind="stable")[:count]]

    def believe(self, observed: Observed, unseen: Rows) -> Belief:
        """Expected improvement over ``unseen`` (a part of it, where it is large). At least one
        row must be measured."""
        lesson = self._lesson(observed)
        belief = Belief(unseen, lesson.best, lesson.processes)
        for row in observed.pending.tolist():
            belief = belief.with_pending(row)
        if lesson.trees is None:
            return belief
        kept = _short_list(belief.gain, np.random.default_rng((self._seed, len(observed.rows))))
        rows = unseen[kept]
        mean, deviation = lesson.trees.predict(self._split[rows])
        now, then = belief.processes[0].outlook, lesson.processes[0].outlook
        deviation *= now.deviation[rows] / then.deviation[rows]
        votes = Votes(lesson.trees_share, mean + self._offset[rows], deviation)
        return Belief(rows, lesson.best, belief.processes, votes)

    def _lesson(self, observed: Observed) -> _Lesson:
        state = observed.knowledge
        if self._last is None or self._last[0] != state:
            self._last = (state, self._learn(observed.rows, observed.log_us, observed.best))
        return self._last[1]

    def _learn(self, rows: Rows, log_us: Floats, best: float) -> _Lesson:
        learnt = [view.learn(rows, log_us) for view in self._views]
        shares, held_out = _shares([density for _, density in learnt], self._trust)
        processes = tuple(
            Process(float(share), outlook, view.offset)
            for share, view, (outlook, _) in zip(shares, self._views, learnt, strict=True)
        )
        if len(rows) < _TREES_FROM:
            return _Lesson(best, processes, None, 0.0)
        seed = int(np.random.default_rng((self._seed, len(rows))).integers(2**31))
        trees = fit_trees(self._split[rows], log_us - self._offset[rows], seed)
        return _Lesson(best, processes, trees, 1 - _weight(held_out, trees.held_out_log_likelihood))


def _log_density(error: Floats, deviation: Floats) -> Floats:
    density: Floats = -0.5 * (np.log(2 * np.pi * deviation**2) + (error / deviation) ** 2)
    return density


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


def _centred(values: Floats) -> Floats:
    deviation = float(values.std())
    centred: Floats = (values - values.mean()) / (deviation or 1.0)
    return centred
