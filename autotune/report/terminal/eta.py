"""An estimate of the seconds that a run will still take, which falls as time passes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from autotune.tuning.tuning_study import TuningStudy

_FEWEST = 3
_LONGER = 1 / 3
"""A study past its usual end gets at least this share of its measurements more."""
_PATIENCE = 5.0
"""So many usual gaps without a measurement, and the pace is no longer what it was."""


def still_expected(studies: Sequence[TuningStudy]) -> float:
    """Return the measurements that will be made: as many as is usual for each study, and where
    some have ended, as many times that as those needed. One that has gone on for long will go
    on for a while, but not beyond its target."""
    over = [s for s in studies if s.measured and is_over(s)]
    used = sum(min(len(s.measured), s.target) / s.usual_end for s in over)
    ratio = (1.0 + used) / (1 + len(over))  # the first to end are the quickest
    return sum(
        min(max(ratio * s.usual_end - done, _LONGER * done), s.target - done)
        for s in studies
        if not is_over(s)
        for done in [len(s.measured)]
    )


def is_over(study: TuningStudy) -> bool:
    """True where the study will get no more measurements."""
    return bool(study.ended) or len(study.measured) >= study.target


class TimeLeft:
    """The seconds left, from the pace of the measurements: feed every one with what remains.

    The pace is that of the last half of all measurements: later ones are faster, once kernels are
    compiled, but they come in bursts, between which others are compiled. So a pause counts until
    as many were measured after it as before.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._ends = [clock()]
        self._remaining = 0.0

    def measured(self, remaining: float) -> None:
        """A measurement ended; ``remaining`` are expected to follow."""
        self._ends.append(self._clock())
        self._remaining = remaining

    @property
    def seconds(self) -> float | None:
        """None until there is a pace."""
        count = len(self._ends) - 1
        if count < _FEWEST:
            return None
        since, last = self._ends[count // 2], self._ends[-1]
        steps = count - count // 2
        gap = (last - since) / steps
        wait = self._clock() - last
        passed = min(wait, _PATIENCE * gap)
        return max(self._remaining * (gap + (wait - passed) / steps) - passed, 0.0)
