"""The seam between search and hardware."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

from autotune.spec.config import AnyConfig
from autotune.spec.device import Device
from autotune.spec.measurement import Measurement
from autotune.spec.problem import Problem
from autotune.studies.outcome import Outcome, TrialResult
from autotune.studies.search.pruning import Stop
from autotune.studies.space import SearchSpace


class Measurer(Protocol):
    """Measures configs. Lives in a child process that may be killed at any moment.

    Implementations: ``cuda`` (a real GPU), ``engine_kernel`` (the same with an engine's own
    kernel), ``estimate`` (compiled for a GPU, time modelled), ``replay`` (a recorded landscape).
    Constructing one may be slow (a CUDA context, imports); everything is released by ``close``.
    """

    @property
    def device(self) -> Device:
        """What is measured on; the same for the measurer's life."""

    def space(self, problem: Problem) -> SearchSpace:
        """The configs that may be asked for, or for separate kernels the pairs of configs. Raises
        DeviceError where the problem cannot run at all (a dtype that the GPU lacks, a landscape
        of another problem), and says why."""

    def prior_us(
        self, problem: Problem, configs: tuple[AnyConfig, ...]
    ) -> tuple[float, ...] | None:
        """A guess of each config's time, without compiling, or None where there is none.
        Only the order matters: the first trials are the most promising."""

    def measure(
        self, problem: Problem, config: AnyConfig, *, stop: Stop | None = None
    ) -> TrialResult:
        """Compile if needed, verify if the device can, time.

        A config that has lost to ``stop`` may be given up: outcome PRUNED, with what was taken.
        Expected failures come back as outcomes; an exception means that the measurer is broken.
        """

    def measure_interleaved(
        self, problem: Problem, configs: tuple[AnyConfig, ...]
    ) -> tuple[TrialResult, ...]:
        """As ``measure``, for each config, with samples taken in turns, so that their ratios do
        not show what changes with time. Where that cannot be: one after the other."""

    def close(self) -> None:
        """Release the device. Called once."""


def timed_together(
    checked: Sequence[TrialResult], timed: Callable[[list[int]], Sequence[Measurement]]
) -> tuple[TrialResult, ...]:
    """For a ``measure_interleaved``: what was compiled and verified, with the measurements that
    ``timed`` takes of those that are right, by their numbers."""
    right = [number for number, result in enumerate(checked) if result.outcome is Outcome.OK]
    found = dict(zip(right, timed(right) if right else (), strict=True))
    return tuple(
        replace(result, measurement=found[number]) if number in found else result
        for number, result in enumerate(checked)
    )
