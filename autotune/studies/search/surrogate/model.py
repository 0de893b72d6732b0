"""What is believed about every candidate: Gaussian processes and trees, weighed by their record.

observed ─► residual over the prior ─► process, trees ─┐ held-out likelihood
         └► prior as a feature ──────► process ────────┴─► shares ─► expected improvement
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from autotune.spec.arrays import Floats, Rows
from autotune.studies.search.surrogate.acquisition import Belief, Process, Votes
from autotune.studies.search.surrogate.additive import with_alone
from autotune.studies.search.surrogate.candidates import Candidates
from autotune.studies.search.surrogate.gp import GaussianProcess, Inputs, Kernel, Outlook
from autotune.studies.search.surrogate.hyperparameters import fit_hyperparameters
from autotune.studies.search.surrogate.observations import Observed
from autotune.studies.search.surrogate.trees import Trees, fit_trees

_REFIT_GROWTH = 1.1
"""Hyperparameters are fitted anew when the observations have grown by so much."""
_FEW = 6
"""Values that may be equal by chance."""
_WORST_DENSITY = -8.0
"""A single surprise must not decide between the models."""
_DOUBT = 5.0
"""Held-out errors of just the expected size that are assumed besides those seen."""
_SHORT_LIST = 5000
"""Candidates that trees judge: the processes' best. A bound on time only."""
_LEAST_WEIGHT = 0.1
"""Neither kind of model is ever silenced: the loser of today may know another valley."""


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
class HeldOut:
    """Errors and deviations of predictions from all other values."""

    error: Floats
    deviation: Floats

    @property
    def log_density(self) -> Floats:
        density: Floats = -0.5 * (
            np.log(2 * np.pi * self.deviation**2) + (self.error / self.deviation) ** 2
        )
        return density

    @property
    def surprise(self) -> float:
        """How many times the deviation errors are, root mean square; never below one."""
        squared = (self.error / self.deviation) ** 2
        typical = (squared.sum() + _DOUBT) / (len(squared) + _DOUBT)
        return float(np.sqrt(max(typical, 1.0)))


class _View:
    """A Gaussian process over what is left of the log times when an offset is taken away."""

    def __init__(self, candidates: Candidates, prior: Prior | None, *, trusts: bool) -> None:
        n = len(candidates)
        guess = np.zeros(n) if prior is None else prior.log_us - prior.log_us.min()
        column = np.zeros((n, 0)) if prior is None else _centred(guess)[:, None]
        at = Inputs.apart(candidates.smooth, np.column_stack([candidates.features, column]))
        is_blind = not candidates.features.shape[1]
        self._at = with_alone(at, candidates.unit) if is_blind else at
        self.offset = guess if trusts else np.zeros(n)
        self._error = prior.error if prior is not None and trusts else None
        self._process: GaussianProcess | None = None
        self._fitted = 0

    def learn(self, rows: Rows, log_us: Floats) -> tuple[Outlook, HeldOut]:
        """Beliefs of all candidates, and how well each value was foreseen from the others."""
        values = log_us - self.offset[rows]
        scale = _spread(values) if self._error is None else self._error
        process = self._process_of(rows, values, scale)
        place = {row: i for i, row in enumerate(rows.tolist())}
        order = np.array([place[row] for row in process.rows.tolist()])
        error, deviation = np.empty(len(rows)), np.empty(len(rows))
        error[order], deviation[order] = process.held_out(values[order], scale)
        return process.outlook(values[order], scale), HeldOut(error, deviation)

    def _process_of(self, rows: Rows, values: Floats, scale: float) -> GaussianProcess:
        """The last process, having learnt what is new; another one where hyperparameters are due,
        or where the last one knows what is no longer so."""
        last = self._process
        theta = None if last is None else last.kernel.theta
        if len(rows) >= self._fitted * _REFIT_GROWTH:
            theta = fit_hyperparameters(self._at.take(rows), values, scale, theta)
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
    surprise: float
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

    def believe(self, observed: Observed, unseen: Rows, weight: Floats | None = None) -> Belief:
        """Expected improvement over ``unseen`` (a part of it, where it is large). At least one
        row must be measured. ``weight`` of each candidate: see ``demotion``."""
        lesson = self._lesson(observed)
        belief = Belief(unseen, lesson.best, lesson.processes, weight=weight)
        for row in observed.pending.tolist():
            belief = belief.with_pending(row)
        if lesson.trees is None:
            return belief
        rows = belief.likely(_SHORT_LIST)
        mean, deviation = lesson.trees.predict(self._split[rows])
        now, then = belief.processes[0].outlook, lesson.processes[0].outlook
        deviation *= now.deviation[rows] / then.deviation[rows]
        votes = Votes(lesson.trees_share, mean + self._offset[rows], deviation)
        return replace(belief, rows=rows, votes=votes)

    def gains(self, observed: Observed, belief: Belief) -> Floats:
        """[belief.rows] share of the best time that each is expected to save, if the processes
        are as wrong there as they were where times are known."""
        return belief.saving(self._lesson(observed).surprise)

    def _lesson(self, observed: Observed) -> _Lesson:
        state = observed.knowledge
        if self._last is None or self._last[0] != state:
            self._last = (state, self._learn(observed.rows, observed.log_us, observed.best))
        return self._last[1]

    def _learn(self, rows: Rows, log_us: Floats, best: float) -> _Lesson:
        learnt = [view.learn(rows, log_us) for view in self._views]
        densities = [record.log_density for _, record in learnt]
        shares = _shares(densities, self._trust)
        surprise = float(shares @ [record.surprise for _, record in learnt])
        processes = tuple(
            Process(float(share), outlook, view.offset)
            for share, view, (outlook, _) in zip(shares, self._views, learnt, strict=True)
        )
        if len(rows) < _FEW:
            return _Lesson(best, processes, surprise, None, 0.0)
        seed = int(np.random.default_rng((self._seed, len(rows))).integers(2**31))
        trees = fit_trees(self._split[rows], log_us - self._offset[rows], seed)
        together = np.log(shares @ np.exp(np.maximum(densities, _WORST_DENSITY)))
        weight = _weight(together, trees.held_out_log_likelihood)
        return _Lesson(best, processes, surprise, trees, 1 - weight)


def _shares(held_out: Sequence[Floats], trust: float) -> Floats:
    """Share of each view by its record, tempered by √n since held-out errors of neighbours are no
    independent votes; the first is ``trust`` ahead in log odds."""
    record = np.maximum(np.array(held_out), _WORST_DENSITY)
    odds = record.sum(axis=1) / np.sqrt(record.shape[1])
    odds[0] += trust
    shares: Floats = np.exp(odds - odds.max())
    shares /= shares.sum()
    return shares


def _spread(values: Floats) -> float:
    """Standard deviation; of a few values at least a tenth, since they may be equal by chance."""
    return max(float(values.std()), 0.1 if len(values) < _FEW else 1e-3)


def _weight(process: Floats, trees: Floats) -> float:
    """The processes' share: logistic in the difference of held-out log likelihood."""
    known = np.isfinite(trees)
    difference = process[known] - np.maximum(trees[known], _WORST_DENSITY)
    evidence = float(difference.sum()) / np.sqrt(max(len(process), 1))
    share = 1 / (1 + np.exp(-np.clip(evidence, -30, 30)))
    return float(np.clip(share, _LEAST_WEIGHT, 1 - _LEAST_WEIGHT))


def _centred(values: Floats) -> Floats:
    deviation = float(values.std())
    centred: Floats = (values - values.mean()) / (deviation or 1.0)
    return centred
