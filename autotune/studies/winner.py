"""Which config of a study may be written: never one that loses to what the user has."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from autotune.kernels.config import AnyConfig
from autotune.kernels.measurement import routing_us, typical_us
from autotune.studies.record import Measured

_MAD_TO_SIGMA = 1.4826
"""Median absolute deviation to standard deviation, for a normal distribution."""


@dataclass(frozen=True, slots=True)
class Winner:
    """The config to write, its time, and how it compares with the fastest incumbent."""

    config: AnyConfig
    median_us: float
    incumbent_us: float | None
    is_incumbent: bool
    """True where nothing beat the incumbent by more than the noise, and it stays."""
    speedup_interval: tuple[float, float] | None = None
    """95 % confidence interval of ``speedup``, where finalists were measured again."""

    @property
    def speedup(self) -> float | None:
        """Incumbent's time over ours; None where the incumbent could not be measured."""
        return self.incumbent_us / self.median_us if self.incumbent_us else None


def choose_winner(
    entries: Sequence[Measured], incumbents: Iterable[AnyConfig], routings: int = 1
) -> Winner | None:
    """The fastest complete entry if it beats every incumbent by more than the noise, else the
    fastest incumbent. ``routings`` as of a ``Measurement``.

    Incumbents that were not measured (they cannot run here) do not count. None where nothing
    was measured completely.
    """
    complete = [entry for entry in entries if entry.complete]
    if not complete:
        return None
    best = min(complete, key=lambda entry: entry.median_us)
    known = set(incumbents)
    rivals = [entry for entry in complete if entry.config in known]
    rival = min(rivals, key=lambda entry: entry.median_us, default=None)
    if rival is None:
        return Winner(best.config, best.median_us, None, is_incumbent=False)
    if best.config == rival.config or not beats(best.samples_us, rival.samples_us, routings):
        return Winner(rival.config, rival.median_us, rival.median_us, is_incumbent=True)
    return Winner(best.config, best.median_us, rival.median_us, is_incumbent=False)


def beats(samples: Sequence[float], rival: Sequence[float], routings: int = 1) -> bool:
    """True where ``samples`` are faster than ``rival`` by more than the noise of their ratios.

    Both hold one sample per routing instance, in the same order. Noise is the standard error of
    the median ratio, from the median absolute deviation; of several routings, each from its own
    median.
    """
    ratios = [ours / theirs for ours, theirs in zip(samples, rival, strict=False)]
    medians, middle = routing_us(ratios, routings), typical_us(ratios, routings)
    apart = (abs(ratio - medians[i % routings]) for i, ratio in enumerate(ratios))
    spread = median(apart) * _MAD_TO_SIGMA
    return middle + 2 * spread / math.sqrt(len(ratios)) < 1.0
