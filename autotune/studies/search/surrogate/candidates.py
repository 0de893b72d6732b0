"""The feasible set as numbers: what models learn from and what may be proposed."""

from __future__ import annotations

import itertools
import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import CategoricalDistribution

from autotune.spec.arrays import Floats

Params = Mapping[str, Any]

_FEATURE_SCALE = 0.25
"""Standard deviation of a physical feature among knobs that span 0 to 1. Uniform knobs have
0.29: neither kind dominates a distance."""
_MANY_VALUES = 6
"""From so many values on, numbers that are no powers of two also say how even they are: sizes
in multiples of 16 differ in alignment to warps and lines, which their logarithm hides."""


@dataclass(frozen=True)
class Candidates:
    """Every set of parameters that may be asked, in a fixed order. Made by ``candidates_of``."""

    rows: tuple[Params, ...]
    knobs: Floats
    """[n, d] coded parameters: powers of two by exponent, categories by category."""
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
        """Parameter → the choices that occur: ascending where they are numbers."""
        return {name: CategoricalDistribution(_values(self.rows, name)) for name in self._names}

    def index(self, params: Params) -> int | None:
        """Row of ``params``; None for what is incomplete or not among the candidates."""
        key = tuple(params.get(name) for name in self._names)
        return self._row_of.get(key)

    @cached_property
    def _names(self) -> tuple[str, ...]:
        return tuple(self.rows[0])

    @cached_property
    def _row_of(self) -> dict[tuple[Hashable, ...], int]:
        return {tuple(row[name] for name in self._names): i for i, row in enumerate(self.rows)}


def candidates_of(rows: Sequence[Params], features: Floats | None = None) -> Candidates:
    """Code a table of parameters; ``features`` [n, f] in any unit are standardised.

    Raises ValueError for an empty table.
    """
    if not rows:
        raise ValueError("no candidates: a sampler needs at least one feasible set of parameters")
    columns = [column for name in rows[0] for column in _coded([row[name] for row in rows])]
    knobs = np.column_stack(columns) if columns else np.zeros((len(rows), 1))
    physical = np.zeros((len(rows), 0)) if features is None else _standardised(features)
    return Candidates(tuple(rows), knobs, physical)


def _values(rows: Sequence[Params], name: str) -> list[Any]:
    values = dict.fromkeys(row[name] for row in rows)
    return sorted(values) if all(map(_is_number, values)) else list(values)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


def _coded(values: Sequence[Any]) -> list[Floats]:
    """The columns of one parameter; none where it never changes."""
    choices = list(dict.fromkeys(values))
    if len(choices) == 1:
        return []
    if not all(_is_number(choice) and choice >= 0 for choice in choices):
        return [np.array([value == choice for value in values], dtype=float) for choice in choices]
    numbers = np.array(values, dtype=float)
    if len(choices) == 2:
        return [(numbers == numbers.max()).astype(float)]
    least = numbers[numbers > 0].min()
    exponents = np.log2(np.where(numbers > 0, numbers, least / 2))  # 0 lies one below the least
    evenness = _evenness(choices, numbers)
    return [exponents] if evenness is None else [exponents, evenness]


def _evenness(choices: Sequence[float], numbers: Floats) -> Floats | None:
    """Exponent of the largest power of two that divides each, where that says something new."""
    whole = all(float(choice).is_integer() and choice > 0 for choice in choices)
    if len(choices) < _MANY_VALUES or not whole:
        return None
    integers = numbers.astype(np.int64)
    powers = np.log2((integers & -integers).astype(float))
    return None if np.array_equal(powers, np.log2(numbers)) else powers


def _standardised(features: Floats) -> Floats:
    varying = features[:, features.std(axis=0) > 1e-9]
    scaled: Floats = (varying - varying.mean(axis=0)) / varying.std(axis=0)
    return scaled
