"""An ensemble of extra trees that knows how wrong it is: judged on what each tree did not see.

Kept lean, since it is grown anew for every proposal: on 200 values and 36 columns 40 trees take
half the time of scikit-learn's own ensemble of as many, which sees all columns at each split.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy  # its modules load when first used
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Columns = NDArray[np.float32]

TREES = 40
_COLUMNS = 0.5
"""Share of the columns that a split may choose from."""
_FEWEST_JUDGES = 4
"""Trees that must not have seen a point for its held-out prediction to count."""
_FLOOR = 0.1
"""Share of the mean squared held-out error that every prediction has at least."""
_MOST_SCALING = 4.0
_ALIKE = 0.03
"""Difference of log times that is none: a plateau must not be spread by its ranks."""


@dataclass(frozen=True)
class Forecast:
    """What is foreseen of rows, in one unit."""

    mean: Floats
    deviation: Floats

    def over(self, offset: Floats) -> Forecast:
        return Forecast(self.mean + offset, self.deviation)

    def narrowed(self, factor: Floats) -> Forecast:
        return Forecast(self.mean, self.deviation * factor)

    def take(self, rows: NDArray[Any]) -> Forecast:
        return Forecast(self.mean[rows], self.deviation[rows])


@dataclass(frozen=True)
class Unit:
    """What votes are counted in: values, or their standing among each other."""

    at: Floats
    """Ascending targets that trees were grown on …"""
    to: Floats
    """… and what each is in this unit."""
    scaling: float
    """What turns the variance between trees into one that held-out errors agree with."""
    floor: float

    def forecast(self, votes: Floats) -> Forecast:
        """Of the columns of ``votes`` [tree, row], which are targets."""
        counted = np.interp(votes, self.at, self.to)
        variance = self.scaling * (counted.var(axis=0) + self.floor)
        return Forecast(counted.mean(axis=0), np.sqrt(variance))


@dataclass(frozen=True)
class Trees:
    """Fitted by ``fit_trees``."""

    trees: Sequence[Any]
    value: Unit
    standing: Unit
    held_out_log_likelihood: Floats
    """[n] log density of each value under the trees that did not see it; NaN: too few."""

    @property
    def best_standing(self) -> float:
        return float(self.standing.to[0])

    def predict(self, columns: Columns) -> tuple[Forecast, Forecast]:
        """Values of each row, and their standing: normal scores, low is good."""
        votes = _votes(self.trees, columns)
        return self.value.forecast(votes), self.standing.forecast(votes)


def fit_trees(columns: Columns, values: Floats, seed: int, *, by_standing: bool = False) -> Trees:
    """Extra trees, each on a bootstrap of the values.

    With ``by_standing`` splits tell values apart by their normal scores, so that the few best,
    which lie close together, count as much as the slow ones; a vote is then the value of that
    standing. Else splits are by the values themselves.
    """
    rng = np.random.default_rng(seed)
    scores = normal_scores(values)
    order = np.argsort(values, kind="stable")
    known_scores, first = np.unique(scores[order], return_index=True)
    known_values = values[order][first]
    targets, at = (scores, known_scores) if by_standing else (values, known_values)
    counts = np.array([_bootstrap(rng, len(values)) for _ in range(TREES)])
    trees = _grown(columns, targets, counts, rng)
    votes = _votes(trees, columns)
    value, density = _unit(votes, counts == 0, values, (at, known_values))
    standing, _ = _unit(votes, counts == 0, scores, (at, known_scores))
    return Trees(trees, value, standing, density)


def normal_scores(values: Floats) -> Floats:
    """Quantile of the standard normal at each value's rank; equal values share one."""
    ranks = scipy.stats.rankdata(np.round((values - values.min()) / _ALIKE))
    scores: Floats = scipy.special.ndtri((ranks - 0.5) / len(values))
    return scores


def _unit(
    votes: Floats, unseen: NDArray[np.bool_], truth: Floats, table: tuple[Floats, Floats]
) -> tuple[Unit, Floats]:
    """Deviations that held-out errors agree with, and the log density of each truth (NaN: too
    few trees did not see it)."""
    at, to = table
    mean, variance, known = _held_out(np.interp(votes, at, to), unseen)
    squared = (truth - mean) ** 2
    floor = _FLOOR * float(squared[known].mean()) + 1e-12 if known.any() else 1e-3
    ratio = float((squared[known] / (variance[known] + floor)).mean()) if known.any() else 1.0
    scaling = float(np.clip(ratio, 1 / _MOST_SCALING, _MOST_SCALING))
    spread = scaling * (variance + floor)
    density = -0.5 * (np.log(2 * np.pi * spread) + squared / spread)
    return Unit(at, to, scaling, floor), np.where(known, density, np.nan)


def _bootstrap(rng: np.random.Generator, count: int) -> NDArray[np.int64]:
    """How often each value is drawn."""
    return np.bincount(rng.integers(count, size=count), minlength=count)


def _grown(
    columns: Columns, values: Floats, counts: NDArray[np.int64], rng: np.random.Generator
) -> list[Any]:
    """One tree for each row of ``counts``, without the checks that are repeated for each."""
    import sklearn  # takes a second: not for ``status``
    from sklearn.tree import ExtraTreeRegressor

    trees = []
    with sklearn.config_context(skip_parameter_validation=True, assume_finite=True):
        for drawn in counts:
            state = int(rng.integers(2**31))
            tree = ExtraTreeRegressor(max_features=_COLUMNS, random_state=state)
            tree.fit(columns, values, sample_weight=drawn.astype(float), check_input=False)
            trees.append(tree.tree_)
    return trees


def _held_out(votes: Floats, unseen: NDArray[np.bool_]) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """Mean and variance over the trees that did not see a point, and where they are enough."""
    count = np.maximum(unseen.sum(axis=0), 1)
    mean = (votes * unseen).sum(axis=0) / count
    variance = ((votes - mean) ** 2 * unseen).sum(axis=0) / count
    return mean, variance, unseen.sum(axis=0) >= _FEWEST_JUDGES


def _votes(trees: Sequence[Any], columns: Columns) -> Floats:
    """[tree, row]."""
    return np.array([tree.predict(columns)[:, 0] for tree in trees])
