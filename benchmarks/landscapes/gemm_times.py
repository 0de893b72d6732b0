"""Times of a layer's two GEMMs as arrays, and the recording that holds them.

Benchmarks and tests that compute over a whole landscape take the arrays; ``--device replay:FILE``
takes the recording. The recording has the samples of both GEMMs: where one of them was stopped, it
lacks the other's later ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from autotune.backends.host_facts import triton_version
from autotune.backends.replay.recording_format import (
    Recording,
    read_recording,
    write_recording,
)
from autotune.spec.arrays import Floats
from autotune.spec.config import AnyConfig, Config, ConfigPair
from autotune.spec.device import Device, DeviceKind, Target
from autotune.spec.measurement import Measurement
from autotune.spec.problem import KernelMode, Problem
from autotune.studies.key import StudyKey
from autotune.studies.outcome import Outcome, TrialResult
from autotune.studies.pairs import completed_as_asked
from autotune.studies.space import Space


@dataclass(frozen=True, slots=True)
class GemmTimes:
    """Samples in µs of the up and the down GEMM, each launched by the same config."""

    configs: tuple[Config, ...]
    """Row order of every array."""
    gemm_us: Mapping[int, Floats]
    """Batch size → [config, up or down, sample]; NaN where it was not measured."""

    @property
    def batch_sizes(self) -> tuple[int, ...]:
        return tuple(sorted(self.gemm_us))

    def samples_us(self, tokens: int) -> Floats:
        """Up plus down, [config, sample]."""
        total: Floats = self.gemm_us[tokens].sum(axis=1)
        return total

    def median_us(self, tokens: int) -> Floats:
        """Median over all samples, [config]; NaN where any sample is missing."""
        medians: Floats = np.median(self.samples_us(tokens), axis=1)
        return medians

    def best_us(self, tokens: int) -> float:
        """The smallest median."""
        return float(np.nanmin(self.median_us(tokens)))


def read_gemm_times(path: Path) -> GemmTimes:
    """Read the separate kernels of a recording: its pairs of twice the same config without TMA.

    Raises DeviceError where ``path`` cannot be read.
    """
    studies = {
        key.problem.tokens: {
            replace(pair.up, use_tma=None): result
            for pair, result in results.items()
            if isinstance(pair, ConfigPair) and pair.up == pair.down and not pair.up.use_tma
        }
        for key, results in read_recording(path).studies.items()
        if key.problem.kernel is KernelMode.SEPARATE
    }
    configs = tuple(dict.fromkeys(config for results in studies.values() for config in results))
    return GemmTimes(configs, {m: _array(configs, found) for m, found in studies.items()})


def write_gemm_times(
    path: Path,
    times: GemmTimes,
    problems: Sequence[Problem],
    device: Device,
    how: str,
    *,
    keeps_failed: bool = True,
) -> None:
    """Write a recording of ``times`` for each of ``problems`` at each of the batch sizes: once as
    separate kernels, and once as the fused one, whose samples are the sums of the two GEMMs'.

    A config without a sample did not compile; it is left out unless ``keeps_failed``.
    """
    studies: dict[StudyKey, dict[AnyConfig, TrialResult]] = {}
    for tokens, us in sorted(times.gemm_us.items()):
        for problem in problems:
            for kernel in KernelMode:
                asked = replace(problem, tokens=tokens, kernel=kernel)
                of_kernel = us if kernel is KernelMode.SEPARATE else us.sum(axis=1, keepdims=True)
                results = {
                    completed_as_asked(asked, device, config): _result(row, how)
                    for config, row in zip(times.configs, of_kernel, strict=True)
                    if keeps_failed or np.isfinite(row).any()
                }
                fingerprint = Space(times.configs).fingerprint
                studies[StudyKey(asked, device, fingerprint)] = results
    write_recording(path, Recording(studies, {}, {"triton": device.triton_version}))


def pretended_gpu(name: str) -> Device:
    """Return a GPU that nobody has: what runs on it is asked of the installed Triton."""
    return Device(DeviceKind.CUDA, name, Target("cuda", 90), 232448, triton_version(), "pretended")


def _array(configs: Sequence[Config], results: Mapping[Config, TrialResult]) -> Floats:
    measured = {c: r.measurement for c, r in results.items() if r.measurement is not None}
    count = max((len(m.samples_us) for m in measured.values()), default=0)
    us = np.full((len(configs), 2, count), np.nan)
    for row, config in enumerate(configs):
        if found := measured.get(config):
            us[row, :, : len(found.samples_us)] = found.up_us, found.down_us
    return us


def _result(us: Floats, how: str) -> TrialResult:
    """Return the outcome of [halves, samples]: none of them is a config that did not compile, some
    of them one that was stopped, since it was many times slower than the best."""
    taken = us[:, np.isfinite(us).all(axis=0)]
    if not taken.size:
        return TrialResult(Outcome.COMPILE_ERROR, reason="it did not compile when recorded")
    measurement = Measurement.of_columns(taken.tolist(), how)
    if taken.shape[1] < us.shape[1]:
        reason = f"the recording stopped after {taken.shape[1]} slow samples"
        return TrialResult(Outcome.PRUNED, measurement, reason)
    return TrialResult(Outcome.OK, measurement)
