"""The seam between search and hardware: a Measurer, and the options that one is opened with."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from autotune.backends.binaries import Binaries
from autotune.spec.config import AnyConfig
from autotune.spec.device import Device
from autotune.spec.problem import Problem
from autotune.studies.outcome import TrialResult
from autotune.studies.search.pruning import Stop
from autotune.studies.space import SearchSpace

INSTANCES = 10
"""Routing instances of a measurement, one sample each: on an H200 samples spread by 0.2 to 6 %."""


@dataclass(frozen=True, slots=True)
class MeasurerOptions:
    """Options of which each measurer takes what concerns it: replay the seed, estimate the cache
    and the seed."""

    cache_dir: Path
    """Folder of compile answers; created when first needed."""
    cold_l2: bool = True
    """Empty the L2 cache before every timed launch."""
    topk_ids_dir: Path | None = None
    """The recording that problems may ask for."""
    seed: int = 0
    """Seed of the routing instances and the inputs; of a replay's samples."""
    provider: str = "autotune"
    """Name of the provider whose kernel is measured on a GPU; see ``PROVIDERS``."""
    output_dir: Path | None = None
    """Folder that a run writes engine files to, which an engine is not to read meanwhile."""


class Measurer(Protocol):
    """Measures configs. Lives in a child process that may be killed at any moment.

    Implementations: ``GpuMeasurer`` (a real GPU, with our kernel or an engine's own),
    ``EstimateMeasurer`` (compiled for a GPU, time modelled), ``ReplayMeasurer`` (recorded times).
    Constructing one may be slow (a CUDA context, imports); everything is released by ``close``.
    """

    @property
    def device(self) -> Device:
        """Facts of the device that is measured; the same for the measurer's life."""

    def space(self, problem: Problem) -> SearchSpace:
        """The configs that may be asked for, or for separate kernels the pairs of configs. Raises
        DeviceError where the problem cannot run at all (a dtype that the GPU lacks, a landscape
        of another problem), and says why."""

    def prior_us(
        self, problem: Problem, configs: tuple[AnyConfig, ...]
    ) -> tuple[float, ...] | None:
        """Return a guess of each config's time, without compiling, or None where there is none.
        Only the order matters: the first trials are the most promising."""

    def own_config(self, problem: Problem) -> AnyConfig | None:
        """Return what an engine launches by itself, where its kernel is measured: by its own
        lookup of files, or its default. Such a config is measured without any override, whether
        or not it is in the space. None where that is no config, and without an engine."""

    def binaries(self, problem: Problem, configs: tuple[AnyConfig, ...]) -> tuple[Binaries, ...]:
        """Return, for each config, the compiles that other processes can do ahead of ``measure``;
        none where it compiles nothing, or what is compiled already."""

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
        """Measure each config as ``measure`` does, with interleaved samples, so that their ratios
        do not show what changes with time. Where that cannot be: one after the other."""

    def close(self) -> None:
        """Release the device. A second call does nothing."""


GuessedSpace = tuple[SearchSpace, "tuple[float, ...] | None"]
"""A problem's space, and ``Measurer.prior_us`` of its configs."""


def guessed_spaces(measurer: Measurer, problems: Sequence[Problem]) -> tuple[GuessedSpace, ...]:
    """Return the problems' spaces and guesses, all in one answer: a space that problems share is
    one object there too."""
    spaces = [measurer.space(problem) for problem in problems]
    guesses = [measurer.prior_us(p, s.configs) for p, s in zip(problems, spaces, strict=True)]
    return tuple(zip(spaces, guesses, strict=True))


@dataclass(frozen=True, slots=True)
class TimedBinaries:
    """What a measurer says of ``Measurer.binaries``, and the seconds that it took to say so."""

    binaries: tuple[Binaries, ...]
    seconds: float


def timed_binaries(
    measurer: Measurer, problem: Problem, configs: tuple[AnyConfig, ...]
) -> TimedBinaries:
    """Ask a measurer what configs compile; its answer may wait until somebody reads it."""
    began = time.perf_counter()
    found = measurer.binaries(problem, configs)
    return TimedBinaries(found, time.perf_counter() - began)
