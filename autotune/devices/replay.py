"""Measures from a recorded landscape: every promise of a GPU, none of its seconds."""

from __future__ import annotations

import hashlib
from functools import cached_property
from pathlib import Path

import numpy as np

from autotune.devices.landscape import Floats, Landscape, load_landscape
from autotune.devices.specs import GpuSpec, find_spec
from autotune.devices.versions import triton_version
from autotune.errors import DeviceError
from autotune.kernels.config import Config
from autotune.kernels.device import Device, DeviceKind, Target
from autotune.kernels.measurement import Measurement
from autotune.kernels.problem import Problem
from autotune.studies.outcome import Outcome, TrialResult
from autotune.studies.space import Space

HOW = "replay"
_UNKNOWN_TARGET = Target("cuda", 90)
_UNKNOWN_SHARED_BYTES = 232448  # of SM90: the recording itself says what could run


class ReplayMeasurer:
    """A Measurer over one file.

    The file does not say which model it was recorded for, so only the batch size of a problem
    is looked up; the rest of the problem is the caller's word.
    """

    def __init__(self, path: Path) -> None:
        """Raises DeviceError where ``path`` is no landscape."""
        self.landscape: Landscape = load_landscape(path)
        self._row_of = {config: row for row, config in enumerate(self.landscape.configs)}
        self._device = _device_of(path)

    @property
    def device(self) -> Device:
        return self._device

    def space(self, problem: Problem) -> Space:
        """The configs with a sample at this batch size."""
        samples = self._samples_of[self._known(problem.tokens)]
        configs = self.landscape.configs
        rows = np.flatnonzero(np.isfinite(samples).any(axis=1)).tolist()
        return Space(configs[row] for row in rows)

    def prior_us(self, problem: Problem, configs: tuple[Config, ...]) -> None:
        """A record has no guess."""

    def measure(
        self, problem: Problem, config: Config, *, stop_above_us: float | None = None
    ) -> TrialResult:
        """The recorded samples. Where the recording itself stopped early: PRUNED."""
        samples = self._samples_of[self._known(problem.tokens)]
        row = self._row_of.get(config)
        if row is None:
            count = len(self.landscape.configs)
            reason = f"{config} is not one of the {count} configs of this landscape"
            return TrialResult(Outcome.INFEASIBLE, reason=reason)
        return _result(samples[row], stop_above_us)

    def close(self) -> None:
        """Nothing is held."""

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
