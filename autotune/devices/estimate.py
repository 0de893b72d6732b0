"""A GPU that is not there: configs are compiled for it, and their time is modelled."""

from __future__ import annotations

import time
from pathlib import Path

from autotune.devices.compiled import FILE_NAME, CompileAnswer, CompileCache
from autotune.devices.prior import static_us
from autotune.devices.rows import RoutedRows, routed_rows
from autotune.devices.specs import GpuSpec
from autotune.devices.time_model import REVISION, model_us
from autotune.devices.versions import triton_version
from autotune.errors import DeviceError
from autotune.kernels.binary import BOTH, Which, binary_key
from autotune.kernels.config import Config
from autotune.kernels.device import Device, DeviceKind
from autotune.kernels.limits import why_no_dtype
from autotune.kernels.measurement import Measurement, Resources
from autotune.kernels.problem import Problem
from autotune.studies.outcome import Outcome, TrialResult
from autotune.studies.space import Space, broken_rule, moe_space

HOW = "estimate"
INSTANCES = 10
"""Routing instances of a measurement: as many as a GPU measures."""


class EstimateMeasurer:
    """A Measurer without hardware. Compiles with the installed Triton, in this process.

    Torch and Triton are imported with the first compile; answers of earlier runs need neither.
    """

    def __init__(self, spec: GpuSpec, *, cache_dir: Path, seed: int = 0) -> None:
        """``cache_dir`` is shared by all processes; it is made when needed."""
        self.spec = spec
        self._seed = seed
        self._cache = CompileCache(cache_dir / FILE_NAME, spec.target)
        self._device = Device(
            kind=DeviceKind.ESTIMATE,
            name=spec.name,
            target=spec.target,
            shared_bytes=spec.shared_per_block,
            triton_version=triton_version(),
            method=f"time model {REVISION}",
        )

    @property
    def device(self) -> Device:
        return self._device

    def space(self, problem: Problem) -> Space:
        """Raises DeviceError where the GPU cannot multiply the problem's dtype."""
        reason = why_no_dtype(problem.dtype, self.spec.target)
        if reason is not None:
            raise DeviceError(f"{self.spec.name} cannot run {problem.dtype.value}: {reason}")
        return moe_space(problem, self.device)

    def prior_us(self, problem: Problem, configs: tuple[Config, ...]) -> tuple[float, ...]:
        """The model with guessed resources."""
        return static_us(problem, configs, self.spec, self._seed)

    def measure(
        self, problem: Problem, config: Config, *, stop_above_us: float | None = None
    ) -> TrialResult:
        """Compiles both GEMMs unless their binaries are known, then models one sample for each
        routing instance. Nothing is verified: there is nothing to run."""
        reason = broken_rule(problem, self.device, config)
        if reason is not None:
            return TrialResult(Outcome.INFEASIBLE, reason=reason)
        begin = time.perf_counter()
        compiled = self.compiled(problem, config)
        compile_s = time.perf_counter() - begin
        if isinstance(compiled, str):
            return TrialResult(Outcome.COMPILE_ERROR, reason=compiled, compile_s=compile_s)
        if compiled.shared_bytes > self.spec.shared_per_block:
            return self._too_large(compiled, compile_s)
        begin = time.perf_counter()
        routings = self._routings(problem, INSTANCES)
        times = model_us(problem, [config], self.spec, routings, [compiled])
        outcome, samples, reason = _judged(tuple(times[:, 0].tolist()), stop_above_us)
        return TrialResult(
            outcome,
            Measurement(samples, HOW),
            reason,
            resources=compiled,
            compile_s=compile_s,
            measure_s=time.perf_counter() - begin,
        )

    def close(self) -> None:
        """Nothing is held: the cache file is opened for each line."""

    def _routings(self, problem: Problem, count: int) -> list[RoutedRows]:
        return [routed_rows(problem, instance, self._seed) for instance in range(count)]

    def compiled(self, problem: Problem, config: Config) -> CompileAnswer:
        """The worse resources of up and down, or why one of them does not compile."""
        found: list[Resources] = []
        for which in BOTH:
            answer = self._answer(problem, config, which)
            if isinstance(answer, str):
                return answer
            found.append(answer)
        return Resources(
            registers=max(r.registers for r in found),
            spill_bytes=max(r.spill_bytes for r in found),
            shared_bytes=max(r.shared_bytes for r in found),
        )

    def _answer(self, problem: Problem, config: Config, which: Which) -> CompileAnswer:
        key = binary_key(problem, config, which)
        known = self._cache.get(key)
        if known is not None:
            return known
        answer = _compile(problem, config, self.spec, which)
        self._cache.put(key, answer)
        return answer

    def _too_large(self, resources: Resources, compile_s: float) -> TrialResult:
        reason = (
            f"compiled, it needs {resources.shared_bytes} bytes of shared memory; "
            f"a block on {self.spec.name} has {self.spec.shared_per_block}"
        )
        return TrialResult(
            Outcome.OUT_OF_RESOURCES, reason=reason, resources=resources, compile_s=compile_s
        )


def _compile(problem: Problem, config: Config, spec: GpuSpec, which: Which) -> CompileAnswer:
    """Imports torch and Triton."""
    from autotune.kernels.ahead import CompileFailure, compile_gemm

    compiled = compile_gemm(problem, config, spec.target, which)
    return compiled.reason if isinstance(compiled, CompileFailure) else compiled.resources


def _judged(
    samples: tuple[float, ...], stop_above_us: float | None
) -> tuple[Outcome, tuple[float, ...], str]:
    if stop_above_us is None or samples[0] <= stop_above_us:
        return Outcome.OK, samples, ""
    reason = f"first sample {samples[0]:.1f} µs is above {stop_above_us:.1f} µs"
    return Outcome.PRUNED, samples[:1], reason
