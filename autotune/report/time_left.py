"""How long a run will still take: a figure that falls as time passes, and may be believed."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

_WINDOW = 40
"""Measurements that the pace is taken from: later ones are faster, once kernels are compiled."""
_FEWEST = 3
_TRUST = 0.2
"""Share of a new estimate that goes into the figure; the rest is the last one, less what passed."""
_PATIENCE = 5.0
"""So many usual gaps without a measurement, and the figure stops falling."""


class Searched(Protocol):
    """As much of a study in work as tells how far it is."""

    @property
    def entries(self) -> Sequence[object]:
        """What was measured."""

    @property
    def target(self) -> int:
        """Measurements that are enough."""

    @property
    def usual_end(self) -> int:
        """Measurements after which studies like it end."""

    @property
    def ended(self) -> str:
        """Why nothing more is measured; empty while something is."""


def still_expected(studies: Sequence[Searched]) -> float:
    """Measurements that will be made: as many as is usual for each study, and where some have
    ended, as many times that as those needed. At least one for each that has not ended."""
    ended = [min(len(s.entries), s.target) / s.usual_end for s in studies if s.ended]
    ratio = (1.0 + sum(ended)) / (1 + len(ended))  # the first to end are the quickest
    return sum(
        max(min(ratio * s.usual_end, s.target) - len(s.entries), 1.0)
        for s in studies
        if not s.ended and len(s.entries) < s.target
    )


class TimeLeft:
    """Feed it every measurement with what remains; read it as often as you like."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._ends: deque[float] = deque([clock()], maxlen=_WINDOW + 1)
        self._left: float | None = None
        self._gap = 0.0

    def measured(self, remaining: float) -> None:
        """A measurement ended; ``remaining`` are expected to follow."""
        now = self._clock()
        expected = self.seconds
        self._ends.append(now)
        self._gap = (now - self._ends[0]) / (len(self._ends) - 1)
        estimate = remaining * self._gap
        if expected is None or remaining == 0:
            self._left = estimate
        else:
            self._left = expected + _TRUST * (estimate - expected)

    @property
    def seconds(self) -> float | None:
        """None until there is a pace."""
        if self._left is None or len(self._ends) <= _FEWEST:
            return None
        passed = min(self._clock() - self._ends[-1], _PATIENCE * self._gap)
        return max(self._left - passed, 0.0)
