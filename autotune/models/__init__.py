"""Model name or path → model shape → the problem of one rank."""

from autotune.models.catalogue import catalogue_shapes
from autotune.models.load import load_shape
from autotune.models.parse import parse_shape
from autotune.models.problems import Parallelism, problem_of
from autotune.models.routings import routing_of
from autotune.models.shape import ModelShape, WeightQuantization

__all__ = [
    "ModelShape",
    "Parallelism",
    "WeightQuantization",
    "catalogue_shapes",
    "load_shape",
    "parse_shape",
    "problem_of",
    "routing_of",
]
