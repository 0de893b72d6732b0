"""A measurer that misbehaves on command: the config's num_stages says how."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path

from autotune.backends.binaries import Binaries, gemm_binaries
from autotune.backends.protocol import MeasurerOptions
from autotune.errors import DeviceError
from autotune.spec.config import Config
from autotune.spec.device import Device, DeviceKind, Target
from autotune.spec.measurement import Measurement
from autotune.spec.problem import Problem
from autotune.studies.outcome import Outcome, TrialResult
from autotune.studies.search.pruning import Stop
from autotune.studies.space import Space

FINE, ABORT, HANG, RAISE, REFUSE, FULL = 2, 3, 4, 5, 6, 7


class FaultyMeasurer:
    """Aborts in C, hangs, raises, refuses, or finds the disk full."""

    device = Device(DeviceKind.CUDA, "Faulty", Target("cuda", 90), 1, "3.6.0")

    def space(self, problem: Problem) -> Space:
        return Space(Config(16, 32, 64, g, 4, stages) for stages in range(2, 6) for g in range(9))

    def prior_us(self, problem: Problem, configs: tuple[Config, ...]) -> None:
        return None

    def own_config(self, problem: Problem) -> Config | None:
        return None

    def binaries(self, problem: Problem, configs: tuple[Config, ...]) -> tuple[Binaries, ...]:
        return tuple(gemm_binaries(problem, config) for config in configs)

    def measure(self, problem: Problem, config: Config, *, stop: Stop | None = None) -> TrialResult:
        if config.num_stages == ABORT:
            os.abort()
        if config.num_stages == HANG:
            time.sleep(3600)
        if config.num_stages == RAISE:
            raise RuntimeError("CUDA error: an illegal memory access\nand more")
        if config.num_stages == REFUSE:
            raise DeviceError("no such GPU")
        if config.num_stages == FULL:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return TrialResult(Outcome.OK, Measurement((1.0,), "fake"))

    def measure_interleaved(
        self, problem: Problem, configs: tuple[Config, ...]
    ) -> tuple[TrialResult, ...]:
        return tuple(self.measure(problem, config) for config in configs)

    def close(self) -> None:
        pass


class NoisyMeasurer(FaultyMeasurer):
    """Times grow with GROUP_SIZE_M, under noise that all configs share; odd stages die late."""

    def __init__(self) -> None:
        self._calls = 0

    def measure(self, problem: Problem, config: Config, *, stop: Stop | None = None) -> TrialResult:
        self._calls += 1
        if config.num_stages == ABORT:
            os.abort()
        routings = (1.0, 1.3, 0.8, 1.1)
        own = 1 + 0.002 * ((self._calls * 7919) % 11 - 5) / 5
        us = 100.0 + config.group_size_m
        return TrialResult(Outcome.OK, Measurement(tuple(us * r * own for r in routings), "fake"))


class SaidByChild(FaultyMeasurer):
    """An engine's: of GROUP_SIZE_M 8 nothing need be compiled, and at 7 its process dies when it is
    asked."""

    def binaries(self, problem: Problem, configs: tuple[Config, ...]) -> tuple[Binaries, ...]:
        if any(config.group_size_m == 7 for config in configs):
            os.abort()
        return tuple(
            {} if config.group_size_m == 8 else gemm_binaries(problem, config) for config in configs
        )


OWN = Config(16, 32, 64, 20, 4, 7)
"""What ``EngineMeasurer`` launches by itself: no config of its space."""


class EngineMeasurer(NoisyMeasurer):
    """An engine that launches ``OWN`` by itself, up to 1024 tokens."""

    def own_config(self, problem: Problem) -> Config | None:
        return OWN if problem.tokens <= 1024 else None


def open_engine(selector: str, options: MeasurerOptions) -> EngineMeasurer:
    """Stands in for ``open_measurer``."""
    return EngineMeasurer()


class FaultyCompiler:
    """Dies or hangs for the configs that ``FaultyMeasurer`` does."""

    def prepare(self, problem: Problem, config: Config) -> float:
        if config.num_stages == ABORT:
            os.abort()
        if config.num_stages == HANG:
            time.sleep(3600)
        return 1.5

    def close(self) -> None:
        pass


class UnluckyMeasurer(FaultyMeasurer):
    """What happens to a config happens once: the folder remembers. The other process is killed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def measure(self, problem: Problem, config: Config, *, stop: Stop | None = None) -> TrialResult:
        mark = self._folder / str(config)
        if config.num_stages == FINE or mark.exists():
            return TrialResult(Outcome.OK, Measurement((1.0,), "fake"))
        mark.touch()
        return super().measure(problem, config, stop=stop)


class GreedyMeasurer(FaultyMeasurer):
    """Takes 40 MB more with each measurement, and says which process it is."""

    def __init__(self) -> None:
        self._kept: list[bytes] = []

    def measure(self, problem: Problem, config: Config, *, stop: Stop | None = None) -> TrialResult:
        self._kept.append(bytes(1) * (40 << 20))
        return TrialResult(Outcome.OK, Measurement((float(os.getpid()),), "fake"))
