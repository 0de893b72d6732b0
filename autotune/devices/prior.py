"""A guess of each config's time from a GPU's figures alone, before anything is compiled."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from autotune.devices.rows import routed_rows
from autotune.devices.specs import GpuSpec
from autotune.devices.time_model import pairs_us
from autotune.kernels.config import AnyConfig, pair_of
from autotune.kernels.problem import Problem
from autotune.kernels.routing import instances_of

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
