"""A study's trials as rows of the candidates: no Optuna beyond ``observed_of``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.trial import FrozenTrial, TrialState

from autotune.spec.arrays import Floats, Rows
from autotune.studies.search.surrogate.candidates import Candidates
from autotune.studies.trial_record import MEASURED, OUTCOME

_TAIL = 1.0
"""Logarithm from which slowness is compressed: beyond 2.7 times the best, how much slower says
little about the fast end. The median candidate takes 3.3 times the best on convolution A100,
2.6 on GEMM RTX 3090."""
_COMPRESSION = 0.2
_FAILED = 1.5
"""Logarithm above the best that a failed candidate counts as: its neighbours look slow, and
only as long as none of them was measured."""


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
    failed without an ``outcome`` were interrupted and say nothing.
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
        elif trial.state != TrialState.FAIL or OUTCOME in trial.user_attrs:
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
