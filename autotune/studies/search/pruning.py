"""Pruning: a paired test over routing instances says when a config in work has clearly lost.

Instance i is the same routing for every config of a problem, and most of a sample's noise is the
routing's, so sample i is held against the best config's sample i. The rule runs where samples
are taken (``Measurer.measure``), sample by sample, and the storage hears of a pruned trial once:
an Optuna pruner would cost a report, a write, for each sample.

The statistic is Student's on the logarithms of the ratios, with a deviation that is drawn towards
``_USUAL`` as long as there are few samples, so one sample may be enough. A signed-rank test (as
``optuna.pruners.WilcoxonPruner``) needs five before it can say anything at 5 %: there are ten.
``benchmarks/samplers/pruning.md`` holds the two against each other.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

from autotune.spec.measurement import typical_us
from autotune.studies.trial_record import TrialRecord, best_of

HOPELESS = 5.0
"""A first sample so many times the best ends a config, whatever the noise. The recorded
landscapes of the engines' kernels stop there too."""
_USUAL = 0.03
"""Deviation of the logarithm of a paired ratio before anything is known of this config's."""
_WEIGHT = 3.0
"""Samples that ``_USUAL`` counts as."""
_CERTAIN = 2.0
"""Standard errors by which the mean ratio must lie above 1."""

Row = tuple[float, ...]
"""One instance's µs: of the layer, or of each of a pair's GEMMs, which add up."""


@dataclass(frozen=True, slots=True)
class Stop:
    """The best config's samples, which a config in work must not be clearly worse than."""

    best: tuple[Row, ...]
    """The best config's samples by instance."""
    routings: int = 1
    """Number of routings that the samples take in turn."""
    is_paired: bool = True
    """False: give up hopeless configs alone."""
    hopeless: float = HOPELESS
    """Times the best's first sample."""

    def why(self, rows: Sequence[Row]) -> str:
        """Return why these samples, the first ones, are enough; nothing where they are not.

        A pair has lost where both of its GEMMs have: one that is fast may win in other pairs.
        """
        first = sum(rows[0]) / sum(self.best[0])
        if first > self.hopeless:
            return f"the first sample is {first:.1f} times the best's"
        if not self.is_paired:
            return ""
        halves = zip(zip(*rows, strict=True), zip(*self.best, strict=True), strict=True)
        lost = [_lost(own, best) for own, best in halves]
        if min(lost) <= 0:
            return ""
        many = f"{len(rows)} samples are" if len(rows) > 1 else "the first sample is"
        return f"{many} {' and '.join(f'{share:.1%}' for share in lost)} above the best's"

    def whole_us(self, rows: Sequence[Row]) -> float:
        """Return the time that all instances would give a config with these first samples."""
        ratios = [math.log(sum(a) / sum(b)) for a, b in zip(rows, self.best, strict=False)]
        typical = typical_us([sum(row) for row in self.best], self.routings)
        return typical * math.exp(fmean(ratios))


def stop_for(entries: Iterable[TrialRecord]) -> Stop | None:
    """Return the stop against the best complete entry; None where there is none."""
    best = best_of(entries)
    if best is None:
        return None
    columns = (best.up_us, best.down_us) if best.up_us else (best.samples_us,)
    return Stop(tuple(zip(*columns, strict=True)), best.routings)


@dataclass(frozen=True, slots=True)
class Cut:
    """Why no more samples were taken, and the time that all would have given."""

    reason: str
    geomean_us: float
    """The best's mean times the mean ratio to it."""


def taken(rows: Iterable[Row], count: int, stop: Stop | None) -> tuple[tuple[Row, ...], Cut | None]:
    """Return the first of ``count`` rows, up to the one that decides, and the cut if there is one.

    Reads no further than it must. With its last row a config is complete, whatever its time.
    """
    found: list[Row] = []
    for row in rows:
        found.append(row)
        reason = stop.why(found) if stop else ""
        if stop and reason and len(found) < count:
            return tuple(found), Cut(reason, stop.whole_us(found))
    return tuple(found), None


def _lost(samples: Sequence[float], best: Sequence[float]) -> float:
    """Return the mean share by which the samples lie above the best's, if that is clear; else 0."""
    logs = [math.log(own / other) for own, other in zip(samples, best, strict=False)]
    mean = fmean(logs)
    squares = sum((value - mean) ** 2 for value in logs) + _WEIGHT * _USUAL**2
    error = math.sqrt(squares / (_WEIGHT + len(logs) - 1) / len(logs))
    return math.expm1(mean) if mean > _CERTAIN * error else 0.0
