"""A guess of each config's time from a GPU's figures alone, before anything is compiled."""

from __future__ import annotations

from collections.abc import Sequence

from autotune.devices.rows import routed_rows
from autotune.devices.specs import GpuSpec
from autotune.devices.time_model import pairs_us
from autotune.kernels.config import AnyConfig, pair_of
from autotune.kernels.problem import Problem

INSTANCES = 2
"""Routing instances: only the order of the guesses matters, and instances differ by few blocks."""


def static_us(
    problem: Problem, configs: Sequence[AnyConfig], spec: GpuSpec, seed: int
) -> tuple[float, ...]:
    """The time model in µs with guessed resources; 2,000 configs take about 50 ms."""
    if not configs:
        return ()
    routings = [routed_rows(problem, instance, seed) for instance in range(INSTANCES)]
    pairs = [pair_of(config) for config in configs]
    times = pairs_us(problem, pairs, spec, routings).sum(axis=1).mean(axis=0)
    return tuple(float(us) for us in times)
