"""What is believed about every candidate, and which to try next because of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import scipy  # its modules load when first used
from numpy.typing import NDArray

from autotune.studies.surrogate.gp import Outlook

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]

_TINY = 1e-12
_FREEDOM = 0.0


@dataclass(frozen=True)
class Process:
    """A Gaussian process's part in a belief."""

    share: float
    outlook: Outlook
    offset: Floats
    """[candidates] what its means are over."""

    def gain(self, rows: Rows, best: float, width: float) -> Floats:
        mean = self.outlook.mean[rows] + self.offset[rows]
        return improvement(best - mean, self.outlook.deviation[rows] * width)

    def with_believed(self, row: int, log_us: float) -> Process:
        value = log_us - float(self.offset[row])
        return replace(self, outlook=self.outlook.with_believed(row, value))


@dataclass(frozen=True)
class Belief:
    """Over ``rows``, which may be tried. Made by ``Surrogate.believe``."""

    rows: Rows
    best: float
    """Log time to improve on."""
    processes: Sequence[Process]
    width: float = 1.0
    """What deviations are multiplied by: more looks farther from what is known."""
    next_width: float = 1.0
    """Of the proposal after the next; the two alternate."""

    @cached_property
    def gain(self) -> Floats:
        """[rows] expected improvement of log time."""
        total = np.zeros(len(self.rows))
        for process in self.processes:
            total += process.share * process.gain(self.rows, self.best, self.width)
        return total

    def saving(self, width: float) -> Floats:
        """[rows] share of the best time that each is expected to save, by that width."""
        saved: Floats = -np.expm1(-replace(self, width=width).gain)
        return saved

    def likely(self, count: int) -> list[int]:
        """The rows of the largest gains, best first."""
        order = np.argsort(-self.gain, kind="stable")
        return [int(row) for row in self.rows[order[:count]]]

    def favourites(self, count: int) -> list[int]:
        """Rows to try at the same time: each is the favourite while the earlier ones are in
        work, with the times that are believed of them."""
        belief = self
        chosen: list[int] = []
        while len(chosen) < count and len(belief.rows):
            chosen.append(int(belief.rows[np.argmax(belief.gain)]))
            if len(chosen) < count:
                belief = belief.with_pending(chosen[-1])
                belief = replace(belief, width=belief.next_width, next_width=belief.width)
        return chosen

    def with_pending(self, row: int) -> Belief:
        """As if ``row`` had been measured, with the time that is believed of it, but never
        better than the best: only a measurement may be."""
        mean = sum(p.share * float(p.outlook.mean[row] + p.offset[row]) for p in self.processes)
        processes = [process.with_believed(row, max(mean, self.best)) for process in self.processes]
        return replace(self, rows=self.rows[self.rows != row], processes=processes)


def improvement(lead: Floats, deviation: Floats) -> Floats:
    """E[max(0, improvement)] where the mean is ``lead`` better than the best; where that
    underflows, the order is still that of ``lead``."""
    z = lead / deviation
    if _FREEDOM:
        t = scipy.special.stdtr(_FREEDOM, z)
        norm = scipy.special.gamma((_FREEDOM + 1) / 2) / (
            np.sqrt(_FREEDOM * np.pi) * scipy.special.gamma(_FREEDOM / 2)
        )
        pdf = norm * (1 + z**2 / _FREEDOM) ** (-(_FREEDOM + 1) / 2)
        unit = (_FREEDOM + z**2) / (_FREEDOM - 1) * pdf + z * t
    else:
        unit = z * scipy.special.ndtr(z) + np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi)
    gain: Floats = np.maximum(deviation * unit, 0) + _TINY * np.exp(lead)
    return gain
