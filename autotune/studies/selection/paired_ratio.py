"""The ratio of two configs' times, from samples of the same routing instances."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

MIN_PAIRS = 2
"""Pairs of samples of each routing that an interval needs."""
_CONFIDENCE = 0.95
_QUANTILES = (
    12.7062047362,
    4.3026527297,
    3.1824463053,
    2.7764451052,
    2.5705818356,
    2.4469118511,
    2.3646242516,
    2.3060041352,
    2.2621571628,
    2.2281388520,
    2.2009851601,
    2.1788128297,
    2.1603686565,
    2.1447866879,
    2.1314495456,
    2.1199052992,
    2.1098155778,
    2.1009220402,
    2.0930240544,
    2.0859634473,
    2.0796138447,
    2.0738730679,
    2.0686576104,
    2.0638985616,
    2.0595385528,
    2.0555294386,
    2.0518305165,
    2.0484071418,
    2.0452296421,
    2.0422724563,
    2.0395134464,
    2.0369333435,
    2.0345152974,
    2.0322445093,
    2.0301079283,
    2.0280940010,
    2.0261924630,
    2.0243941639,
    2.0226909200,
    2.0210753903,
    2.0195409704,
    2.0180817028,
    2.0166921992,
    2.0153675744,
    2.0141033889,
    2.0128955989,
    2.0117405137,
    2.0106347576,
    2.0095752371,
    2.0085591121,
    2.0075837703,
    2.0066468051,
    2.0057459953,
    2.0048792882,
    2.0040447833,
    2.0032407188,
    2.0024654593,
    2.0017174841,
    2.0009953781,
    2.0002978220,
)
"""Student's quantiles of ``_CONFIDENCE``, two-sided, for 1, 2, … degrees of freedom, as scipy has
them: importing it takes half of what ``best`` may, and finals have 59 degrees at most."""


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
    logs = [math.log(ours / theirs) for ours, theirs in zip(samples, others, strict=False)]
    if len(logs) < MIN_PAIRS * routings:
        raise ValueError(f"{len(logs)} pairs of samples; an interval needs {MIN_PAIRS}")
    means = [fmean(logs[start::routings]) for start in range(routings)]
    apart = math.fsum((log - means[i % routings]) ** 2 for i, log in enumerate(logs))
    freedom = len(logs) - routings
    half = _quantile(freedom) * math.sqrt(apart / freedom / len(logs))
    middle = fmean(logs)
    return Ratio(math.exp(middle), math.exp(middle - half), math.exp(middle + half))


def _quantile(freedom: int) -> float:
    """Return by how many standard errors the interval reaches to each side."""
    if freedom <= len(_QUANTILES):
        return _QUANTILES[freedom - 1]
    from scipy.special import stdtrit

    return float(stdtrit(freedom, (1 + _CONFIDENCE) / 2))
