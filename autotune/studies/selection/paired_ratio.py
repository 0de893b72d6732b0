"""The ratio of two configs' times, from samples of the same routing instances."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

MIN_PAIRS = 2
"""Pairs of samples of each routing that an interval needs."""
_CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Ratio:
    """Time of one config over another's, with its 95 % confidence interval."""

    middle: float
    low: float
    high: float


def ratio(samples: Sequence[float], others: Sequence[float], routings: int = 1) -> Ratio:
    """Return the geometric mean of the paired ratios; the interval is Student's on logarithms.

    Each of several routings, taken in turn, has its own mean: that a config gains more under one
    than under another is no noise. Raises ValueError where one has fewer than two pairs.
    """
    from scipy.special import stdtrit  # not where nothing is compared

    logs = [math.log(ours / theirs) for ours, theirs in zip(samples, others, strict=False)]
    if len(logs) < MIN_PAIRS * routings:
        raise ValueError(f"{len(logs)} pairs of samples; an interval needs {MIN_PAIRS}")
    means = [fmean(logs[start::routings]) for start in range(routings)]
    apart = math.fsum((log - means[i % routings]) ** 2 for i, log in enumerate(logs))
    freedom = len(logs) - routings
    errors = float(stdtrit(freedom, (1 + _CONFIDENCE) / 2))
    half = errors * math.sqrt(apart / freedom / len(logs))
    middle = fmean(logs)
    return Ratio(math.exp(middle), math.exp(middle - half), math.exp(middle + half))
