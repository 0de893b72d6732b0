"""What is believed about every candidate, and which to try next because of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import scipy  # its modules load when first used

from autotune.spec.arrays import Floats, Rows
from autotune.studies.search.surrogate.gp import Outlook

_TINY = 1e-12


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
class Votes:
    """The trees' part in a belief, about its rows."""

    share: float
    mean: Floats
    deviation: Floats

    def gain(self, best: float, width: float) -> Floats:
        return improvement(best - self.mean, self.deviation * width)


@dataclass(frozen=True)
class Belief:
    """Over ``rows``, which may be tried. Made by ``Surrogate.believe``."""

    rows: Rows
    best: float
    """Log time to improve on."""
    processes: Sequence[Process]
    votes: Votes | None = None
    weight: Floats | None = None
    """[candidates] see ``demotion``; None where nothing is known of any."""

    @cached_property
    def gain(self) -> Floats:
        """[rows] expected improvement of log time, less where a candidate compiled badly: what to
        try next is decided by it."""
        return self.weighted(self._gain(1.0))

    def weighted(self, gain: Floats) -> Floats:
        """[rows] ``gain``, less where a candidate compiled badly."""
        return gain if self.weight is None else gain * self.weight[self.rows]

    def saving(self, width: float) -> Floats:
        """[rows] share of the best time that each is expected to save where deviations are so
        many times those that are believed."""
        saved: Floats = -np.expm1(-self._gain(width))
        return saved

    def _gain(self, width: float) -> Floats:
        total = np.zeros(len(self.rows))
        for process in self.processes:
            total += process.share * process.gain(self.rows, self.best, width)
        if self.votes is None:
            return total
        return (1 - self.votes.share) * total + self.votes.share * self.votes.gain(self.best, width)

    def likely(self, count: int) -> Rows:
        """The rows of the largest gains, best first."""
        order: Rows = np.argsort(-self.gain, kind="stable")
        return self.rows[order[:count]]

    def favourites(self, count: int) -> list[int]:
        """Rows to try at the same time: each is the favourite while the earlier ones are in
        work, with the times that are believed of them."""
        belief = self
        chosen: list[int] = []
        while len(chosen) < count and len(belief.rows):
            chosen.append(int(belief.rows[np.argmax(belief.gain)]))
            if len(chosen) < count:
                belief = belief.with_pending(chosen[-1])
        return chosen

    def with_pending(self, row: int) -> Belief:
        """As if ``row`` had been measured, with the time that is believed of it, but never
        better than the best: only a measurement may be."""
        mean = sum(p.share * float(p.outlook.mean[row] + p.offset[row]) for p in self.processes)
        processes = [process.with_believed(row, max(mean, self.best)) for process in self.processes]
        kept = self.rows != row
        votes = self.votes
        if votes is not None:  # trees take the process's word for how much less is unknown
            known = processes[0].outlook.deviation / self.processes[0].outlook.deviation
            deviation = votes.deviation * known[self.rows]
            votes = Votes(votes.share, votes.mean[kept], deviation[kept])
        return Belief(self.rows[kept], self.best, processes, votes, self.weight)


def improvement(lead: Floats, deviation: Floats) -> Floats:
    """E[max(0, improvement)] of normals whose mean is ``lead`` better than the best; where that
    underflows, the order is still that of ``lead``."""
    z = lead / deviation
    density = np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi)
    gain: Floats = np.maximum(
        deviation * (z * scipy.special.ndtr(z) + density), 0
    ) + _TINY * np.exp(lead)
    return gain
