"""A guess of each config's time from a GPU's figures alone, before anything is compiled."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from autotune.backends.estimate.model import pairs_us
from autotune.backends.hardware import GpuSpec
from autotune.backends.routed_rows import routed_rows
from autotune.routing.draw import instances_of
from autotune.spec.config import AnyConfig, pair_of
from autotune.spec.problem import Problem

INSTANCES = 2
"""Routing instances: only the order of the guesses matters, and instances differ by few blocks."""


def static_us(
    problem: Problem, configs: Sequence[AnyConfig], spec: GpuSpec, seed: int
) -> tuple[float, ...]:
    """The time model in µs with guessed resources; 2,000 configs take about 50 ms."""
    if not configs:
        return ()
    count = instances_of(problem, INSTANCES)
    routings = [routed_rows(problem, instance, seed) for instance in range(count)]
    pairs = [pair_of(config) for config in configs]
    times = pairs_us(problem, pairs, spec, routings).sum(axis=1)
    times = np.exp(np.log(times).mean(axis=0))  # as several routings are measured
    return tuple(float(us) for us in times)
