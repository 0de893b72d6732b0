"""The acquisition function: expected improvement of every candidate, and which to try next.

A candidate that compiled badly, or that nothing is compiled of yet, is tried later: its expected
improvement is multiplied by a weight, never zero.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import scipy  # its modules load when first used

from autotune.spec.arrays import Floats, Rows
from autotune.spec.config import AnyConfig
from autotune.spec.occupancy import Footprint
from autotune.studies.search.surrogate.gp import Posterior

FootprintLookup = Callable[[], Mapping[int, Footprint]]
"""Returns the footprints that are known by now, by row of the candidates."""

BegunLookup = Callable[[], Collection[AnyConfig]]
"""Returns the configs that are compiled for some study of the same kernel, or are about to be."""

HEAVY_SPILL_BYTES = 256
"""Spilled bytes of a thread. On an H200 none of 3,850 measurements of such configs came nearer to
the best than 1.83 times its time, over three models and 24 batch sizes; half of those with up to
64 bytes are within 1.4 times up to 256 tokens of Qwen3-30B-A3B
(benchmarks/samplers/footprints.py)."""
_SPILLS = 0.05
_ALONE = 0.7
"""Weight of a config with one block on an SM: of two candidates of about the same expected
improvement the other one comes first. No less than that: at seven of the 24 batch sizes the best
config is alone on its SM, and at one more one that is comes within 0.5 % of it."""
_NOT_BEGUN = 0.5
"""Weight of a config that no batch size has asked for: a compile takes a hundred times as long as a
measurement, and one serves them all. On recorded spaces a quarter to a third fewer configs are
compiled for the same regret (benchmarks/workers/simulate.py); with 0.1, half as many, and
DeepSeek-V3 at 1024 tokens, whose best no other batch size wants, lost 3 to 4 % each time."""
_TINY = 1e-12


@dataclass(frozen=True)
class GpPart:
    """A Gaussian process's part in an acquisition."""

    share: float
    posterior: Posterior
    offset: Floats
    """[candidates] level that the posterior's means are over."""

    def gain(self, rows: Rows, best: float, width: float) -> Floats:
        """Return the rows' expected improvement on ``best``; deviations count ``width`` times."""
        mean = self.posterior.mean[rows] + self.offset[rows]
        return improvement(best - mean, self.posterior.deviation[rows] * width)

    def with_believed(self, row: int, log_us: float) -> GpPart:
        """Return the part as if ``row`` had been measured."""
        value = log_us - float(self.offset[row])
        return replace(self, posterior=self.posterior.with_believed(row, value))


@dataclass(frozen=True)
class TreePart:
    """The trees' part in an acquisition, about its rows."""

    share: float
    mean: Floats
    deviation: Floats

    def gain(self, best: float, width: float) -> Floats:
        """Return the expected improvement on ``best``; deviations count ``width`` times."""
        return improvement(best - self.mean, self.deviation * width)


@dataclass(frozen=True)
class Acquisition:
    """Expected improvement over ``rows``, which may be tried. Made by ``Surrogate.acquisition``."""

    rows: Rows
    best: float
    """Log time to improve on."""
    gp_parts: Sequence[GpPart]
    trees: TreePart | None = None
    weight: Floats | None = None
    """[candidates] factors from ``weights``; None where nothing is known of any."""

    @cached_property
    def gain(self) -> Floats:
        """[rows] expected improvement of log time, weighted: it decides what is tried next."""
        return self.weighted(self._gain(1.0))

    def weighted(self, gain: Floats) -> Floats:
        """Return ``gain`` [rows], less where a candidate compiled badly."""
        return gain if self.weight is None else gain * self.weight[self.rows]

    def saving(self, width: float) -> Floats:
        """Return the share of the best time [rows] that each is expected to save where deviations
        are ``width`` times the believed ones."""
        saved: Floats = -np.expm1(-self._gain(width))
        return saved

    def _gain(self, width: float) -> Floats:
        total = np.zeros(len(self.rows))
        for part in self.gp_parts:
            total += part.share * part.gain(self.rows, self.best, width)
        if self.trees is None:
            return total
        return (1 - self.trees.share) * total + self.trees.share * self.trees.gain(self.best, width)

    def likely(self, count: int) -> Rows:
        """Return the rows of the largest gains, best first."""
        order: Rows = np.argsort(-self.gain, kind="stable")
        return self.rows[order[:count]]

    def favourites(self, count: int) -> list[int]:
        """Return rows to try at the same time: each is the favourite while the earlier ones are in
        work, with the times that are believed of them."""
        acquisition = self
        chosen: list[int] = []
        while len(chosen) < count and len(acquisition.rows):
            chosen.append(int(acquisition.rows[np.argmax(acquisition.gain)]))
            if len(chosen) < count:
                acquisition = acquisition.with_pending(chosen[-1])
        return chosen

    def with_pending(self, row: int) -> Acquisition:
        """Return the acquisition as if ``row`` had been measured with the time that is believed of
        it, but never better than the best: only a measurement may be."""
        mean = sum(p.share * float(p.posterior.mean[row] + p.offset[row]) for p in self.gp_parts)
        parts = [part.with_believed(row, max(mean, self.best)) for part in self.gp_parts]
        kept = self.rows != row
        trees = self.trees
        if trees is not None:  # trees take the process's word for how much less is unknown
            known = parts[0].posterior.deviation / self.gp_parts[0].posterior.deviation
            deviation = trees.deviation * known[self.rows]
            trees = TreePart(trees.share, trees.mean[kept], deviation[kept])
        return Acquisition(self.rows[kept], self.best, parts, trees, self.weight)


def improvement(lead: Floats, deviation: Floats) -> Floats:
    """Return E[max(0, improvement)] of normals whose mean is ``lead`` better than the best; where
    that underflows, the order is still that of ``lead``."""
    z = lead / deviation
    density = np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi)
    gain: Floats = np.maximum(
        deviation * (z * scipy.special.ndtr(z) + density), 0
    ) + _TINY * np.exp(lead)
    return gain


def weights(footprints: Mapping[int, Footprint], count: int) -> Floats:
    """Return the candidates' weights [count]: 1 where nothing is known or all is well."""
    weight = np.ones(count)
    for row, footprint in footprints.items():
        if footprint.spill_bytes >= HEAVY_SPILL_BYTES:
            weight[row] = _SPILLS
        elif footprint.blocks_per_sm is not None and footprint.blocks_per_sm <= 1:
            weight[row] = _ALONE
    return weight


def haste(begun: Iterable[int], count: int) -> Floats:
    """Return the candidates' weights [count] by what compiles they need: 1 for those ``begun``."""
    weight = np.full(count, _NOT_BEGUN)
    weight[list(begun)] = 1.0
    return weight


def lighter(rows: Rows, weight: Floats | None) -> Rows:
    """Return the rows that are not known to spill heavily; all where all do."""
    if weight is None:
        return rows
    light = rows[weight[rows] > _SPILLS]
    return light if len(light) else rows
