"""A sampler that enumerates the feasible set and models log time over it.

parameters ─► candidates ─┐
problem, device ─► features ├─► model (processes + trees) ─► sampler ─► informed sampler
siblings, static guess ─► prior ┘
"""

from __future__ import annotations

from autotune.studies.search.surrogate.candidates import Candidates, candidates_of
from autotune.studies.search.surrogate.features import features
from autotune.studies.search.surrogate.model import Prior
from autotune.studies.search.surrogate.prior import Subject, sibling_prior
from autotune.studies.search.surrogate.resource_penalty import Footprints
from autotune.studies.search.surrogate.sampler import SurrogateSampler
from autotune.studies.search.surrogate.transfer_sampler import USUAL_STOP, History, TransferSampler

__all__ = [
    "USUAL_STOP",
    "Candidates",
    "Footprints",
    "History",
    "Prior",
    "Subject",
    "SurrogateSampler",
    "TransferSampler",
    "candidates_of",
    "features",
    "sibling_prior",
]
