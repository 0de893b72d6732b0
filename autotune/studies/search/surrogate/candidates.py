"""The feasible set as numbers: the rows that may be proposed, and the models' inputs."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import CategoricalDistribution

from autotune.spec.arrays import Floats

Params = Mapping[str, int]
"""Parameter → number, never negative."""

_FEATURE_SCALE = 0.25
"""Standard deviation of a physical feature among knobs that span 0 to 1. Uniform knobs have
0.29: neither kind dominates a distance."""


@dataclass(frozen=True)
class Candidates:
    """Every set of parameters that may be asked, in a fixed order. Made by ``candidates_of``."""

    rows: tuple[Params, ...]
    knobs: Floats
    """[n, d] coded parameters: powers of two by exponent, one of two values as 0 and 1."""
    features: Floats
    """[n, f] physical features, each with mean 0 and standard deviation 1; f may be 0."""

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def unit(self) -> Floats:
        """[n, d] each knob from 0 to 1."""
        low, high = self.knobs.min(axis=0), self.knobs.max(axis=0)
        scaled: Floats = (self.knobs - low) / np.where(high > low, high - low, 1.0)
        return scaled

    @cached_property
    def smooth(self) -> Floats:
        """[n, d + f] for a Gaussian process: knobs from 0 to 1, features on that scale."""
        return np.column_stack([self.unit, self.features * _FEATURE_SCALE])

    @cached_property
    def split(self) -> NDArray[np.float32]:
        """[n, …] for trees: knobs, features, and sums and differences of each pair of knobs,
        which are logarithms of products and ratios (tile areas, work per thread)."""
        pairs = list(itertools.combinations(self.knobs.T, 2))
        sums = [a + b for a, b in pairs]
        differences = [a - b for a, b in pairs]
        columns = np.column_stack([self.knobs, self.features, *sums, *differences])
        return np.ascontiguousarray(columns, dtype=np.float32)

    @cached_property
    def distributions(self) -> dict[str, CategoricalDistribution]:
        """Parameter → the choices that occur, ascending."""
        return {
            name: CategoricalDistribution(sorted({row[name] for row in self.rows}))
            for name in self._names
        }

    def index(self, params: Mapping[str, Any]) -> int | None:
        """Return the row of ``params``; None where they are incomplete or no candidate."""
        key = tuple(params.get(name) for name in self._names)
        return self._row_of.get(key)

    @cached_property
    def _names(self) -> tuple[str, ...]:
        return tuple(self.rows[0])

    @cached_property
    def _row_of(self) -> dict[tuple[Any, ...], int]:
        return {tuple(row[name] for name in self._names): i for i, row in enumerate(self.rows)}


def candidates_of(rows: Sequence[Params], features: Floats | None = None) -> Candidates:
    """Code a table of parameters; ``features`` [n, f] in any unit are standardised.

    Raises ValueError for an empty table.
    """
    if not rows:
        raise ValueError("no candidates: a sampler needs at least one feasible set of parameters")
    columns = [
        _coded(np.array(values, dtype=float))
        for values in ([row[name] for row in rows] for name in rows[0])
        if len(set(values)) > 1
    ]
    knobs = np.column_stack(columns) if columns else np.zeros((len(rows), 1))
    physical = np.zeros((len(rows), 0)) if features is None else _standardised(features)
    return Candidates(tuple(rows), knobs, physical)


def _coded(numbers: Floats) -> Floats:
    """Return the column of a parameter that takes several values."""
    if len(np.unique(numbers)) == 2:
        larger: Floats = (numbers == numbers.max()).astype(float)
        return larger
    least = numbers[numbers > 0].min()
    exponents: Floats = np.log2(np.where(numbers > 0, numbers, least / 2))
    return exponents  # 0 lies one below the least


def _standardised(features: Floats) -> Floats:
    varying = features[:, features.std(axis=0) > 1e-9]
    scaled: Floats = (varying - varying.mean(axis=0)) / varying.std(axis=0)
    return scaled
