"""What ``replay`` plays: landscapes (``landscape``) and our own recordings (``recording``)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np

from autotune.backends.hardware import GpuSpec, find_spec
from autotune.backends.replay.landscape import load_landscape
from autotune.backends.replay.recording_format import (
    Results,
    is_recording,
    measurement_of,
    read_recording,
)
from autotune.backends.versions import triton_version
from autotune.errors import DeviceError
from autotune.spec.arrays import Floats
from autotune.spec.binary import BOTH, Which
from autotune.spec.config import AnyConfig, Config, ConfigPair
from autotune.spec.device import Device, DeviceKind, Target
from autotune.spec.measurement import Measurement, worse_of
from autotune.spec.problem import KernelMode, Problem
from autotune.studies.outcome import Outcome, TrialResult
from autotune.studies.pairs import PairSpace
from autotune.studies.space import SearchSpace, Space, completed

HOW = "replay"
METHOD = "replay, 2"
"""Before 2 a config's time was the median of its samples."""
_UNKNOWN_TARGET = Target("cuda", 90)
_UNKNOWN_SHARED_BYTES = 232448  # of SM90: the recording itself says what could run


class Tape(Protocol):
    """A file of recorded measurements."""

    @property
    def device(self) -> Device:
        """What was recorded. The method holds the content's digest: two files never mix."""

    def space(self, problem: Problem) -> SearchSpace:
        """Of what was recorded. Raises DeviceError for a problem that was not."""

    def result(self, problem: Problem, config: AnyConfig) -> TrialResult:
        """As it was recorded; INFEASIBLE for a config that was not."""


def open_tape(path: Path) -> Tape:
    """Raises DeviceError where ``path`` is neither a landscape nor a recording."""
    return RecordingTape(path) if is_recording(path) else LandscapeTape(path)


def recorded_configs(path: Path) -> list[AnyConfig]:
    """Every config of a file, whatever became of it. Raises DeviceError as ``open_tape`` does."""
    if not is_recording(path):
        return list(load_landscape(path).configs)
    studies = read_recording(path).studies.values()
    return list(dict.fromkeys(config for results in studies for config in results))


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
        """As long as the shorter of the two. The failure of either is the pair's."""
        up, down = self.up.get(pair.up), self.down.get(pair.down)
        if up is None or down is None:
            which: Which = "up" if up is None else "down"
            return _unrecorded(getattr(pair, which), len(self.up), which)
        for which, half in (("up", up), ("down", down)):
            if half.measurement is None and half.failed_half in (which, None):
                return replace(half, failed_half=which)
        if up.measurement is None or down.measurement is None:
            return _unrecorded(pair.up, len(self.up), "up" if up.measurement is None else "down")
        ups, downs = up.measurement.up_us, down.measurement.down_us
        count = min(len(ups), len(downs))
        cut = up if up.outcome is not Outcome.OK else down
        resources = [half.resources for half in (up, down) if half.resources]
        return replace(
            cut,
            measurement=Measurement.of_halves(ups[:count], downs[:count], up.measurement.how),
            resources=worse_of(*resources) if resources else None,
        )


class RecordingTape:
    """A file that ``record`` wrote: it knows its problems, its device and its versions.

    Recorded pairs are twice the same config. Other pairs are put together from them: each GEMM was
    timed alone.
    """

    def __init__(self, path: Path) -> None:
        """Raises DeviceError where ``path`` cannot be read, or nothing was recorded."""
        self._recording = read_recording(path)
        was = self._recording.device
        said = "" if was.kind is DeviceKind.CUDA else f" of {was.kind.value}"
        method = f"{METHOD} {_digest(path)}{said}"
        self.device = replace(was, kind=DeviceKind.REPLAY, method=method)
        self._results = {key.problem: found for key, found in self._recording.studies.items()}
        self._halves: dict[Problem, _Halves] = {}

    def space(self, problem: Problem) -> SearchSpace:
        """See ``Tape``: exactly the recorded configs, whatever became of them."""
        results = self._of(problem)
        if problem.kernel is KernelMode.SEPARATE:
            return self._halves_of(problem).space
        return Space(config for config in results if isinstance(config, Config))

    def result(self, problem: Problem, config: AnyConfig) -> TrialResult:
        """See ``Tape``."""
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


class LandscapeTape:
    """A file that does not say which model it was recorded for: only the batch size of a problem
    is looked up; the rest of the problem is the caller's word."""

    def __init__(self, path: Path) -> None:
        """Raises DeviceError where ``path`` is no landscape."""
        self.landscape = load_landscape(path)
        self.device = _device_of(path)
        self._rows_of: dict[Problem, dict[Config, int]] = {}

    def space(self, problem: Problem) -> SearchSpace:
        """See ``Tape``: the configs with a sample; pairs of them for separate kernels."""
        samples = self._samples_of[self._known(problem.tokens)]
        known = set(np.flatnonzero(np.isfinite(samples).any(axis=1)).tolist())
        space = Space(config for config, row in self._rows(problem).items() if row in known)
        return PairSpace(space, space) if problem.kernel is KernelMode.SEPARATE else space

    def result(self, problem: Problem, config: AnyConfig) -> TrialResult:
        """See ``Tape``. Where the recording itself stopped early: PRUNED."""
        tokens = self._known(problem.tokens)
        row_of = self._rows(problem)
        halves = (config.up, config.down) if isinstance(config, ConfigPair) else (config,)
        for half in halves:
            if half not in row_of:
                return _unrecorded(half, len(self.landscape.configs))
        rows = [row_of[half] for half in halves]
        if isinstance(config, ConfigPair):
            both = self.landscape.gemm_us[tokens]
            return _pair_result(both[rows[0], 0], both[rows[1], 1])
        return _result((self._samples_of[tokens][rows[0]],))

    def _rows(self, problem: Problem) -> dict[Config, int]:
        """Row of each config, as the problem's space calls it: a landscape names no key that
        launches fill in."""
        if problem not in self._rows_of:
            configs = (completed(problem, self.device, c) for c in self.landscape.configs)
            self._rows_of[problem] = {config: row for row, config in enumerate(configs)}
        return self._rows_of[problem]

    @cached_property
    def _samples_of(self) -> dict[int, Floats]:
        landscape = self.landscape
        return {tokens: landscape.samples_us(tokens) for tokens in landscape.batch_sizes}

    def _known(self, tokens: int) -> int:
        if tokens not in self.landscape.batch_sizes:
            sizes = ", ".join(map(str, self.landscape.batch_sizes))
            raise DeviceError(f"batch size {tokens} was not recorded; try --batch-size {sizes}")
        return tokens


def _unrecorded(config: Config | ConfigPair, count: int, which: Which | None = None) -> TrialResult:
    reason = f"{config} is not one of the {count} configs of this recording"
    return TrialResult(Outcome.INFEASIBLE, reason=reason, failed_half=which)


def _pair_result(up: Floats, down: Floats) -> TrialResult:
    """Of the samples that both halves have; which of them did not compile is said too."""
    result = _result((up, down))
    if result.measurement is not None:
        return result
    failed = [w for w, us in zip(BOTH, (up, down), strict=True) if not np.isfinite(us).any()]
    return replace(result, failed_half=failed[0] if len(failed) == 1 else None)


def _result(columns: Iterable[Floats]) -> TrialResult:
    us = np.stack(list(columns))
    finite = us[:, np.isfinite(us).all(axis=0)]
    if not finite.size:
        return TrialResult(Outcome.COMPILE_ERROR, reason="it did not compile when recorded")
    measurement = measurement_of(finite.tolist(), HOW)
    if finite.shape[1] < us.shape[1]:
        reason = f"the recording stopped after {finite.shape[1]} slow samples"
        return TrialResult(Outcome.PRUNED, measurement, reason)
    return TrialResult(Outcome.OK, measurement)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]


def _device_of(path: Path) -> Device:
    """The GPU that a word of the file's name means, as in moe_h200_mymodel.npz.

    A file of another name is a device of that name with the most permissive limits. The Triton
    version is the installed one, since a landscape keeps none.
    """
    spec = _spec_in_name(path)
    return Device(
        kind=DeviceKind.REPLAY,
        name=spec.name if spec else path.stem,
        target=spec.target if spec else _UNKNOWN_TARGET,
        shared_bytes=spec.shared_per_block if spec else _UNKNOWN_SHARED_BYTES,
        triton_version=triton_version(),
        method=f"{METHOD} {_digest(path)}",
    )


def _spec_in_name(path: Path) -> GpuSpec | None:
    for word in path.stem.split("_"):
        try:
            return find_spec(word)
        except DeviceError:
            continue
    return None
