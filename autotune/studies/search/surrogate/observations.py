"""What a study knows so far, as rows of the candidates: no Optuna from here on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from autotune.spec.arrays import Floats, Rows

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
    """In work elsewhere, or queued."""

    @property
    def taken(self) -> Rows:
        """Everything that must not be proposed."""
        return np.concatenate([self.measured, self.failed, self.pending])

    @property
    def knowledge(self) -> bytes:
        """Equal where the same is known, whatever is in work."""
        parts = (self.measured, self.us, self.complete, self.failed)
        return b"|".join(part.tobytes() for part in parts)

    def with_pending(self, rows: Sequence[int]) -> Observed:
        """The same with further rows in work."""
        return replace(self, pending=np.append(self.pending, np.array(rows, dtype=np.int64)))

    def with_taken(self, later: Observed) -> Observed:
        """The same knowledge; what was taken since is in work."""
        return self.with_pending(np.setdiff1d(later.taken, self.taken).tolist())

    @property
    def rows(self) -> Rows:
        """What ``log_us`` has a value for: measured, then failed."""
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
