"""An ensemble of extra trees that knows how wrong it is: judged on what each tree did not see.

Kept lean, since it is grown anew for every proposal.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autotune.spec.arrays import Floats

Columns = NDArray[np.float32]

TREES = 40
_COLUMNS = 0.5
"""Share of the columns that a split may choose from."""
_FEWEST_JUDGES = 4
"""Trees that must not have seen a point for its held-out prediction to count."""
_FLOOR = 0.1
"""Share of the mean squared held-out error that every prediction has at least."""
_MOST_SCALING = 4.0


@dataclass(frozen=True)
class Trees:
    """Fitted by ``fit_trees``."""

    trees: Sequence[Any]
    scaling: float
    """Factor that makes the variance between trees agree with held-out errors."""
    floor: float
    held_out_log_likelihood: Floats
    """[n] log density of each value under the trees that did not see it; NaN: too few."""

    def predict(self, columns: Columns) -> tuple[Floats, Floats]:
        """Mean and standard deviation of each row."""
        votes = votes_of(self.trees, columns)
        variance = self.scaling * (votes.var(axis=0) + self.floor)
        return votes.mean(axis=0), np.sqrt(variance)


def fit_trees(columns: Columns, values: Floats, seed: int) -> Trees:
    """Extra trees, each on a bootstrap of the values."""
    rng = np.random.default_rng(seed)
    counts = np.array([_bootstrap(rng, len(values)) for _ in range(TREES)])
    draws = (np.repeat(np.arange(len(values)), drawn) for drawn in counts)
    samples = ((columns[rows], values[rows], None) for rows in draws)
    trees = extra_trees(samples, int(rng.integers(2**31)), max_features=_COLUMNS)
    mean, variance, known = _held_out(votes_of(trees, columns), counts == 0)
    squared = (values - mean) ** 2
    floor = _FLOOR * float(squared[known].mean()) + 1e-12 if known.any() else 1e-3
    ratio = float((squared[known] / (variance[known] + floor)).mean()) if known.any() else 1.0
    scaling = float(np.clip(ratio, 1 / _MOST_SCALING, _MOST_SCALING))
    spread = scaling * (variance + floor)
    density = -0.5 * (np.log(2 * np.pi * spread) + squared / spread)
    return Trees(trees, scaling, floor, np.where(known, density, np.nan))


def extra_trees(
    samples: Iterable[tuple[Columns, Floats, Floats | None]], seed: int, **knobs: Any
) -> list[Any]:
    """A tree for each of the samples: columns, values, and weights or None.

    Without what scikit-learn repeats for each tree of an ensemble, clones, checks and seeds: on
    40 values and 36 columns these are two thirds of the time. ``knobs`` are its estimator's.
    """
    import sklearn  # takes a second: not for ``status``
    from sklearn.tree import ExtraTreeRegressor

    state = np.random.RandomState(seed)
    trees = []
    with sklearn.config_context(skip_parameter_validation=True, assume_finite=True):
        for columns, values, weights in samples:
            tree = ExtraTreeRegressor(random_state=state, **knobs)
            tree.fit(columns, values, sample_weight=weights, check_input=False)
            trees.append(tree.tree_)
    return trees


def votes_of(trees: Sequence[Any], columns: Columns) -> Floats:
    """[tree, row]."""
    return np.array([tree.predict(columns)[:, 0] for tree in trees])


def _bootstrap(rng: np.random.Generator, count: int) -> NDArray[np.int64]:
    """Return how often each value is drawn."""
    return np.bincount(rng.integers(count, size=count), minlength=count)


def _held_out(votes: Floats, unseen: NDArray[np.bool_]) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """Mean and variance over the trees that did not see a point, and where they are enough."""
    count = np.maximum(unseen.sum(axis=0), 1)
    mean = (votes * unseen).sum(axis=0) / count
    variance = ((votes - mean) ** 2 * unseen).sum(axis=0) / count
    return mean, variance, unseen.sum(axis=0) >= _FEWEST_JUDGES
