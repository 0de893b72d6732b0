"""Measures from a recording: every promise of a GPU, none of its seconds."""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from autotune.backends.binaries import Binaries
from autotune.backends.replay.recording_format import Results, read_recording
from autotune.errors import DeviceError
from autotune.spec.binary import Which
from autotune.spec.config import AnyConfig, Config, ConfigPair
from autotune.spec.device import DeviceKind
from autotune.spec.measurement import Measurement, worse_of
from autotune.spec.problem import KernelMode, Problem
from autotune.studies.outcome import Outcome, TrialResult
from autotune.studies.pairs import PairSpace
from autotune.studies.search.pruning import Stop, taken
from autotune.studies.space import SearchSpace, Space

METHOD = "replay, 2"
"""Before 2 a config's time was the median of its samples."""


class ReplayMeasurer:
    """A Measurer over one recording.

    Noise is the recording's: seed 0 gives a config's samples as they are the first time, and
    other times, as other seeds always, a resample of them, with replacement. The same routing
    instances are drawn for every config that was measured so many times, so samples of two
    configs still compare pair by pair.

    Recorded pairs are twice the same config. Other pairs are put together from them, since each
    GEMM was timed alone.
    """

    def __init__(self, path: Path, *, seed: int = 0, seconds: float = 0.0) -> None:
        """Each measurement takes ``seconds``, as if there were a GPU to wait for. Raises
        DeviceError where ``path`` cannot be read as a recording, or nothing was recorded."""
        recording = read_recording(path)
        was = recording.device
        said = "" if was.kind is DeviceKind.CUDA else f" of {was.kind.value}"
        digest = hashlib.sha256(path.read_bytes()).hexdigest()[:12]
        method = f"{METHOD} {digest}{said}"  # the digest keeps times of two files apart
        self.device = replace(was, kind=DeviceKind.REPLAY, method=method)
        """The device that was recorded, under the kind of a replay."""
        self._results = {key.problem: found for key, found in recording.studies.items()}
        self._halves: dict[Problem, _Halves] = {}
        self._seed, self._seconds = seed, seconds
        self._times: Counter[tuple[Problem, AnyConfig]] = Counter()

    def space(self, problem: Problem) -> SearchSpace:
        """Return exactly the recorded configs, whatever became of them; for separate kernels pairs
        of them."""
        results = self._of(problem)
        if problem.kernel is KernelMode.SEPARATE:
            return self._halves_of(problem).space
        return Space(config for config in results if isinstance(config, Config))

    def prior_us(self, problem: Problem, configs: tuple[AnyConfig, ...]) -> None:
        """Return None: a recording has no guess."""

    def own_config(self, problem: Problem) -> None:
        """Return None: no engine is there."""

    def binaries(self, problem: Problem, configs: tuple[AnyConfig, ...]) -> tuple[Binaries, ...]:
        """Return none: nothing can be compiled ahead."""
        return ({},) * len(configs)

    def measure(
        self, problem: Problem, config: AnyConfig, *, stop: Stop | None = None
    ) -> TrialResult:
        """Return what was recorded: PRUNED, too, where the recording itself stopped early."""
        time.sleep(self._seconds)
        return replace(self._measured(problem, config, stop), measure_s=self._seconds)

    def measure_interleaved(
        self, problem: Problem, configs: tuple[AnyConfig, ...]
    ) -> tuple[TrialResult, ...]:
        """Nothing here changes with time: one after the other."""
        return tuple(self.measure(problem, config) for config in configs)

    def close(self) -> None:
        """Nothing is held."""

    def _measured(self, problem: Problem, config: AnyConfig, stop: Stop | None) -> TrialResult:
        result = self._recorded(problem, config)
        if result.measurement is None:
            return result
        measurement = result.measurement
        if result.outcome is Outcome.OK:
            measurement = self._drawn(problem, config, measurement)
        rows = tuple(zip(*measurement.columns, strict=True))
        kept, cut = taken(rows, len(rows), stop)
        if cut is None:
            return replace(result, measurement=measurement)
        short = Measurement.of_columns(tuple(zip(*kept, strict=True)), measurement.how)
        short = replace(short, extrapolated_us=cut.geomean_us)
        return replace(result, outcome=Outcome.PRUNED, measurement=short, reason=cut.reason)

    def _drawn(self, problem: Problem, config: AnyConfig, whole: Measurement) -> Measurement:
        time = self._times[problem, config]
        self._times[problem, config] += 1
        if (self._seed, time) == (0, 0):
            return whole
        count = len(whole.samples_us)
        drawn = np.random.default_rng((self._seed, time)).integers(0, count, count)
        columns = [[column[index] for index in drawn] for column in whole.columns]
        return Measurement.of_columns(columns, whole.how)

    def _recorded(self, problem: Problem, config: AnyConfig) -> TrialResult:
        """Return the recorded result; INFEASIBLE for a config that was not recorded."""
        results = self._of(problem)
        if config in results:
            return results[config]
        if isinstance(config, ConfigPair):
            return self._halves_of(problem).result(config)
        return _unrecorded(config, len(results))

    def _halves_of(self, problem: Problem) -> _Halves:
        if problem not in self._halves:
            self._halves[problem] = _Halves.of(self._of(problem))
        return self._halves[problem]

    def _of(self, problem: Problem) -> Results:
        if problem in self._results:
            return self._results[problem]
        same = [p.tokens for p in self._results if replace(p, tokens=problem.tokens) == problem]
        if same:
            sizes = ", ".join(map(str, sorted(same)))
            raise DeviceError(
                f"batch size {problem.tokens} was not recorded; try --batch-size {sizes}"
            )
        known = ", ".join(sorted({p.name.rpartition(" ")[0] for p in self._results}))
        raise DeviceError(
            f"{problem.name} was not recorded; recorded are {known}. Give the --model, --tp-size, "
            "--kernel and --engine that it was recorded with"
        )


@dataclass(frozen=True, slots=True)
class _Halves:
    """A recording of pairs, taken apart: each GEMM's config → the result that timed it."""

    up: Mapping[Config, TrialResult]
    down: Mapping[Config, TrialResult]

    @classmethod
    def of(cls, results: Results) -> _Halves:
        pairs = [(c, result) for c, result in results.items() if isinstance(c, ConfigPair)]
        return cls({c.up: r for c, r in pairs}, {c.down: r for c, r in pairs})

    @property
    def space(self) -> PairSpace:
        return PairSpace(Space(self.up), Space(self.down))

    def result(self, pair: ConfigPair) -> TrialResult:
        """Put a pair's result together, as long as the shorter half's. Either failure is the
        pair's."""
        up, down = self.up.get(pair.up), self.down.get(pair.down)
        if up is None or down is None:
            which: Which = "up" if up is None else "down"
            return _unrecorded(getattr(pair, which), len(self.up), which)
        for which, half in (("up", up), ("down", down)):
            if half.measurement is None and half.failed_half in (which, None):
                return replace(half, failed_half=which)
        if up.measurement is None or down.measurement is None:
            return _unrecorded(pair.up, len(self.up), "up" if up.measurement is None else "down")
        halves = up.measurement.up_us, down.measurement.down_us
        count = min(map(len, halves))
        cut = up if up.outcome is not Outcome.OK else down
        resources = [half.resources for half in (up, down) if half.resources]
        return replace(
            cut,
            measurement=Measurement.of_columns([h[:count] for h in halves], up.measurement.how),
            resources=worse_of(*resources) if resources else None,
        )


def _unrecorded(config: AnyConfig, count: int, which: Which | None = None) -> TrialResult:
    reason = f"{config} is not one of the {count} configs of this recording"
    return TrialResult(Outcome.INFEASIBLE, reason=reason, failed_half=which)
