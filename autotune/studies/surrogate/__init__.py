"""A sampler that enumerates the feasible set and models log time over it.

parameters ─► candidates ─┐
problem, device ─► features ├─► model (processes + trees) ─► sampler ─► informed sampler
siblings, static guess ─► prior ┘
"""

from __future__ import annotations

from autotune.studies.surrogate.candidates import Candidates, candidates_of
from autotune.studies.surrogate.demotion import Footprints
from autotune.studies.surrogate.features import features
from autotune.studies.surrogate.informed import USUAL_STOP, History, InformedSampler
from autotune.studies.surrogate.model import Prior
from autotune.studies.surrogate.prior import Subject, sibling_prior
from autotune.studies.surrogate.sampler import SurrogateSampler

__all__ = [
    "USUAL_STOP",
    "Candidates",
    "Footprints",
    "History",
    "InformedSampler",
    "Prior",
    "Subject",
    "SurrogateSampler",
    "candidates_of",
    "features",
    "sibling_prior",
]
