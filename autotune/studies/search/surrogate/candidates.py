"""The feasible set as numbers: the rows that may be proposed, and the models' inputs. A study's
trials as such rows."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import CategoricalDistribution
from optuna.trial import FrozenTrial, TrialState

from autotune.spec.arrays import Floats, Rows
from autotune.studies.trial_record import MEASURED, is_interrupted

Params = Mapping[str, int]
"""Parameter → number, never negative."""

_FEATURE_SCALE = 0.25
"""Standard deviation of a physical feature among knobs that span 0 to 1. Uniform knobs have
0.29: neither kind dominates a distance."""
_TAIL = 1.0
"""Logarithm from which slowness is compressed: beyond 2.7 times the best, how much slower says
little about the fast end. The median candidate takes 3.3 times the best on convolution A100,
2.6 on GEMM RTX 3090."""
_COMPRESSION = 0.2
_FAILED = 1.5
"""Logarithm above the best that a failed candidate counts as: its neighbours look slow, and
only as long as none of them was measured."""


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
        key = tuple(map(params.get, self._names))
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


@dataclass(frozen=True)
class Observed:
    """Rows of ``Candidates`` by what became of them, in that order. A row appears once."""

    measured: Rows
    us: Floats
    """Time of each measured row."""
    complete: NDArray[np.bool_]
    """False where a measured row was pruned: it informs, and is not the best."""
    failed: Rows
    pending: Rows
    """Rows in work elsewhere, or queued."""

    @property
    def taken(self) -> Rows:
        """Rows that must not be proposed."""
        return np.concatenate([self.measured, self.failed, self.pending])

    @property
    def knowledge(self) -> bytes:
        """Bytes that are equal where the same is known, whatever is in work."""
        parts = (self.measured, self.us, self.complete, self.failed)
        return b"|".join(part.tobytes() for part in parts)

    def with_pending(self, rows: Sequence[int]) -> Observed:
        """Return the same with further rows in work."""
        return replace(self, pending=np.append(self.pending, np.array(rows, dtype=np.int64)))

    @property
    def rows(self) -> Rows:
        """Rows that ``log_us`` has a value for: measured, then failed."""
        return np.concatenate([self.measured, self.failed])

    @cached_property
    def best(self) -> float:
        """Logarithm of the best complete time, or of the best at all where none is complete."""
        times = self.us[self.complete] if self.complete.any() else self.us
        return float(np.log(times.min()))

    @cached_property
    def stale(self) -> int:
        """Measurements since the best one, in the order of ``measured``."""
        if not len(self.us):
            return 0
        times = np.where(self.complete, self.us, np.inf) if self.complete.any() else self.us
        return len(times) - 1 - int(np.argmin(times))

    @cached_property
    def log_us(self) -> Floats:
        """Log times with the slow tail compressed; failures count as slow."""
        logs = np.log(self.us)
        edge = self.best + _TAIL
        beyond = np.maximum(logs - edge, 0)
        tame = np.minimum(logs, edge) + _COMPRESSION * np.log1p(beyond / _COMPRESSION)
        return np.concatenate([tame, np.full(len(self.failed), self.best + _FAILED)])


def observed_of(candidates: Candidates, trials: Iterable[FrozenTrial]) -> Observed:
    """Sort trials by what became of their rows.

    Later trials of one row win over earlier ones, and a measurement over all else. Trials that
    were interrupted say nothing.
    """
    times: dict[int, tuple[float, bool]] = {}
    failed: set[int] = set()
    pending: set[int] = set()
    for trial in trials:
        row = candidates.index(_params(candidates, trial))
        if row is None:
            continue
        if trial.state in MEASURED and trial.value is not None and trial.value > 0:
            times[row] = (trial.value, trial.state == TrialState.COMPLETE)
        elif trial.state in (TrialState.RUNNING, TrialState.WAITING):
            pending.add(row)
        elif not is_interrupted(trial):
            failed.add(row)
    return Observed(
        measured=np.array(list(times), dtype=np.int64),
        us=np.array([us for us, _ in times.values()], dtype=float),
        complete=np.array([complete for _, complete in times.values()], dtype=bool),
        failed=np.array(sorted(failed - times.keys()), dtype=np.int64),
        pending=np.array(sorted(pending - failed - times.keys()), dtype=np.int64),
    )


def _params(candidates: Candidates, trial: FrozenTrial) -> Mapping[str, Any]:
    """Return a trial's parameters, also where it is queued or they are being written; empty where
    they are not known."""
    if candidates.distributions.keys() <= trial.params.keys():
        return trial.params
    queued: Mapping[str, Any] = trial.system_attrs.get("fixed_params", {})
    return queued
