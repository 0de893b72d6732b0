"""Measures from a recorded landscape: every promise of a GPU, none of its seconds."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np

from autotune.backends.replay.recording_format import columns_of, measurement_of
from autotune.backends.replay.replay_data import open_tape
from autotune.spec.config import AnyConfig
from autotune.spec.device import Device
from autotune.spec.measurement import Measurement
from autotune.spec.problem import Problem
from autotune.studies.outcome import Outcome, TrialResult
from autotune.studies.search.pruning import Stop, taken
from autotune.studies.space import SearchSpace


class ReplayMeasurer:
    """A Measurer over one file of either format.

    Noise is the recording's: seed 0 gives a config's samples as they are the first time, and
    other times, as other seeds always, a resample of them, with replacement. The same routing
    instances are drawn for every config that was measured so many times, so samples of two
    configs still compare pair by pair.
    """

    def __init__(self, path: Path, *, seed: int = 0, seconds: float = 0.0) -> None:
        """Each measurement takes ``seconds``, as if there were a GPU to wait for. Raises
        DeviceError where ``path`` is neither a landscape nor a recording."""
        self._tape = open_tape(path)
        self._seed, self._seconds = seed, seconds
        self._times: Counter[tuple[Problem, AnyConfig]] = Counter()

    @property
    def device(self) -> Device:
        """See ``Measurer``: what was recorded, under the kind of a replay."""
        return self._tape.device

    def space(self, problem: Problem) -> SearchSpace:
        """See ``Measurer``. Of what was recorded; pairs of it for separate kernels."""
        return self._tape.space(problem)

    def prior_us(self, problem: Problem, configs: tuple[AnyConfig, ...]) -> None:
        """A record has no guess."""

    def measure(
        self, problem: Problem, config: AnyConfig, *, stop: Stop | None = None
    ) -> TrialResult:
        """See ``Measurer``. Where the recording itself stopped early: PRUNED."""
        time.sleep(self._seconds)
        return replace(self._measured(problem, config, stop), measure_s=self._seconds)

    def measure_interleaved(
        self, problem: Problem, configs: tuple[AnyConfig, ...]
    ) -> tuple[TrialResult, ...]:
        """See ``Measurer``: nothing here changes with time."""
        return tuple(self.measure(problem, config) for config in configs)

    def close(self) -> None:
        """Nothing is held."""

    def _measured(self, problem: Problem, config: AnyConfig, stop: Stop | None) -> TrialResult:
        result = self._tape.result(problem, config)
        if result.measurement is None:
            return result
        measurement = result.measurement
        if result.outcome is Outcome.OK:
            measurement = self._drawn(problem, config, measurement)
        rows = tuple(zip(*columns_of(measurement), strict=True))
        kept, cut = taken(rows, len(rows), stop)
        if cut is None:
            return replace(result, measurement=measurement)
        short = measurement_of(tuple(zip(*kept, strict=True)), measurement.how)
        short = replace(short, extrapolated_us=cut.geomean_us)
        return replace(result, outcome=Outcome.PRUNED, measurement=short, reason=cut.reason)

    def _drawn(self, problem: Problem, config: AnyConfig, whole: Measurement) -> Measurement:
        time = self._times[problem, config]
        self._times[problem, config] += 1
        if (self._seed, time) == (0, 0):
            return whole
        count = len(whole.samples_us)
        drawn = np.random.default_rng((self._seed, time)).integers(0, count, count)
        columns = [[column[index] for index in drawn] for column in columns_of(whole)]
        return measurement_of(columns, whole.how)
