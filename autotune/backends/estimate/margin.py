"""The margin by which one modelled time must undercut another: gains below it are the model's own
error. All figures are printed by ``benchmarks/estimate/margin.py`` from recordings of an H200; on
GPUs other than Hopper's the error is not known, and may be larger than any figure here."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist

from autotune.engines.folders import is_error_known
from autotune.spec.binary import Scales, scales_of
from autotune.spec.device import Target
from autotune.spec.problem import Dtype, Problem

FEW_ROWS = 16
"""Rows of an expert, on average, up to which a batch counts as few: the smallest tile's."""
CERTAINTY = 0.95
"""Probability with which a config whose gain exceeds the margin is faster."""


@dataclass(frozen=True, slots=True)
class Group:
    """Problems whose modelled times are taken to err alike."""

    dtype: Dtype
    scales: Scales
    is_few: bool

    @classmethod
    def of(cls, problem: Problem) -> Group:
        rows = problem.tokens * problem.top_k / (problem.experts * problem.ep_size)
        return cls(problem.dtype, scales_of(problem), rows <= FEW_ROWS)


ERRORS: Mapping[Group, float] = {
    Group(Dtype.BF16, Scales.NONE, is_few=True): 0.055,
    Group(Dtype.BF16, Scales.NONE, is_few=False): 0.062,
    Group(Dtype.FP8_W8A8, Scales.BLOCK, is_few=True): 0.057,
    Group(Dtype.FP8_W8A8, Scales.BLOCK, is_few=False): 0.060,
}
"""Standard deviation of log(measured / modelled) over the configs of a recording within 1.5 times
the best's time; of several recordings the root mean square."""
UNKNOWN_ERROR = 0.098
"""The largest of a single recording: what is assumed where there is none."""


def margin_of(problem: Problem, target: Target) -> float:
    """Return the ``margin`` between two configs of ``problem`` on ``target``. Where nothing was
    recorded of the GPU or the dtype, it is the largest that is known, and no bound."""
    known = ERRORS.get(Group.of(problem)) if is_error_known(target) else None
    return margin(known or UNKNOWN_ERROR)


def margin(error: float, certainty: float = CERTAINTY) -> float:
    """Return m such that a config is faster than another where the other's modelled time is more
    than 1 + m times its own. Both times err, each by itself."""
    return math.expm1(NormalDist().inv_cdf(certainty) * math.sqrt(2) * error)
