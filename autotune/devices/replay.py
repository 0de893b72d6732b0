"""Measures from a recorded landscape: every promise of a GPU, none of its seconds."""

from __future__ import annotations

import hashlib
import time
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np

from autotune.devices.landscape import Floats, Landscape, load_landscape
from autotune.devices.specs import GpuSpec, find_spec
from autotune.devices.versions import triton_version
from autotune.errors import DeviceError
from autotune.kernels.binary import BOTH
from autotune.kernels.config import AnyConfig, Config, ConfigPair
from autotune.kernels.device import Device, DeviceKind, Target
from autotune.kernels.measurement import Measurement
from autotune.kernels.problem import Kernel, Problem
from autotune.studies.outcome import Outcome, TrialResult
from autotune.studies.pairs import PairSpace
from autotune.studies.space import SearchSpace, Space, completed

HOW = "replay"
_UNKNOWN_TARGET = Target("cuda", 90)
_UNKNOWN_SHARED_BYTES = 232448  # of SM90: the recording itself says what could run


class ReplayMeasurer:
    """A Measurer over one file.

    The file does not say which model it was recorded for, so only the batch size of a problem
    is looked up; the rest of the problem is the caller's word.
    """

    def __init__(self, path: Path, *, seconds: float = 0.0) -> None:
        """Each measurement takes ``seconds``, as if there were a GPU to wait for. Raises
        DeviceError where ``path`` is no landscape."""
        self._seconds = seconds
        self.landscape: Landscape = load_landscape(path)
        self._device = _device_of(path)
        self._rows_of: dict[Problem, dict[Config, int]] = {}

    @property
    def device(self) -> Device:
        return self._device

    def space(self, problem: Problem) -> SearchSpace:
        """The configs with a sample at this batch size; pairs of them for separate kernels."""
        samples = self._samples_of[self._known(problem.tokens)]
        known = set(np.flatnonzero(np.isfinite(samples).any(axis=1)).tolist())
        space = Space(config for config, row in self._rows(problem).items() if row in known)
        return PairSpace(space, space) if problem.kernel is Kernel.SEPARATE else space

    def prior_us(self, problem: Problem, configs: tuple[AnyConfig, ...]) -> None:
        """A record has no guess."""

    def measure(
        self, problem: Problem, config: AnyConfig, *, stop_above_us: float | None = None
    ) -> TrialResult:
        """The recorded samples. Where the recording itself stopped early: PRUNED."""
        time.sleep(self._seconds)
        return replace(self._recorded(problem, config, stop_above_us), measure_s=self._seconds)

    def close(self) -> None:
        """Nothing is held."""

    def _recorded(
        self, problem: Problem, config: AnyConfig, stop_above_us: float | None
    ) -> TrialResult:
        tokens = self._known(problem.tokens)
        halves = (config.up, config.down) if isinstance(config, ConfigPair) else (config,)
        row_of = self._rows(problem)
        rows = [row_of.get(half) for half in halves]
        for half, row in zip(halves, rows, strict=True):
            if row is None:
                count = len(self.landscape.configs)
                reason = f"{half} is not one of the {count} configs of this landscape"
                return TrialResult(Outcome.INFEASIBLE, reason=reason)
        if isinstance(config, ConfigPair):
            both = self.landscape.gemm_us[tokens]
            return _pair_result(both[rows[0], 0], both[rows[1], 1], stop_above_us)
        return _result(self._samples_of[tokens][rows[0]], stop_above_us)

    def _rows(self, problem: Problem) -> dict[Config, int]:
        """Row of each config, as the problem's space calls it: a recording names no key that
        launches fill in."""
        if problem not in self._rows_of:
            configs = (completed(problem, self._device, c) for c in self.landscape.configs)
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


def _result(samples: Floats, stop_above_us: float | None) -> TrialResult:
    finite = tuple(float(sample) for sample in samples[np.isfinite(samples)])
    if not finite:
        return TrialResult(Outcome.COMPILE_ERROR, reason="it did not compile when recorded")
    if stop_above_us is not None and finite[0] > stop_above_us:
        reason = f"first sample {finite[0]:.1f} µs is above {stop_above_us:.1f} µs"
        return TrialResult(Outcome.PRUNED, Measurement(finite[:1], HOW), reason)
    if len(finite) < len(samples):
        reason = f"the recording stopped after {len(finite)} slow samples"
        return TrialResult(Outcome.PRUNED, Measurement(finite, HOW), reason)
    return TrialResult(Outcome.OK, Measurement(finite, HOW))


def _pair_result(up: Floats, down: Floats, stop_above_us: float | None) -> TrialResult:
    """Of the samples that both halves have; which of them did not compile is said too."""
    result = _result(up + down, stop_above_us)
    if result.measurement is None:
        failed = [w for w, us in zip(BOTH, (up, down), strict=True) if not np.isfinite(us).any()]
        return replace(result, failed_half=failed[0] if len(failed) == 1 else None)
    is_there = np.isfinite(up + down)
    count = len(result.measurement.samples_us)
    up_us, down_us = (tuple(us[is_there][:count].tolist()) for us in (up, down))
    return replace(result, measurement=Measurement.of_halves(up_us, down_us, HOW))


def _device_of(path: Path) -> Device:
    """The GPU that a word of the file's name means, as in moe_h200_mymodel.npz.

    A file of another name is a device of that name with the most permissive limits. The method
    holds the content's digest: two recordings never mix. The Triton version is the installed
    one, since the file keeps none.
    """
    spec = _spec_in_name(path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:12]
    return Device(
        kind=DeviceKind.REPLAY,
        name=spec.name if spec else path.stem,
        target=spec.target if spec else _UNKNOWN_TARGET,
        shared_bytes=spec.shared_per_block if spec else _UNKNOWN_SHARED_BYTES,
        triton_version=triton_version(),
        method=f"replay {digest}",
    )


def _spec_in_name(path: Path) -> GpuSpec | None:
    for word in path.stem.split("_"):
        try:
            return find_spec(word)
        except DeviceError:
            continue
    return None
