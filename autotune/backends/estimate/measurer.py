"""A GPU that is not there: configs are compiled for it, and their time is modelled."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from autotune.backends.binaries import Binaries
from autotune.backends.compile_cache import BinaryCompiler
from autotune.backends.estimate.model import REVISION, gemms_us, model_us, static_us
from autotune.backends.hardware import GpuSpec
from autotune.backends.host_facts import triton_version
from autotune.backends.protocol import INSTANCES
from autotune.backends.routed_rows import routed_rows
from autotune.errors import DeviceError
from autotune.routing.draw import instances_of
from autotune.spec.binary import BOTH, Which
from autotune.spec.config import AnyConfig, ConfigPair, pair_of
from autotune.spec.device import Device, DeviceKind
from autotune.spec.limits import shared_bytes, why_no_dtype
from autotune.spec.measurement import (
    CompileFailure,
    Measurement,
    Resources,
    worse_of,
)
from autotune.spec.occupancy import held_blocks
from autotune.spec.problem import Problem
from autotune.studies.outcome import Outcome, TrialResult, failed_compile
from autotune.studies.pairs import space_of
from autotune.studies.search.pruning import Row, Stop, taken
from autotune.studies.space import SearchSpace, broken_rule

HOW = "estimate"


class EstimateMeasurer:
    """A Measurer without hardware. Compiles with the installed Triton, in this process.

    Torch and Triton are imported with the first compile; answers of earlier runs need neither.
    """

    def __init__(self, spec: GpuSpec, *, cache_dir: Path, seed: int = 0) -> None:
        """``cache_dir`` is shared by all processes; it is made when needed."""
        self.spec = spec
        self._seed = seed
        self._compiler = BinaryCompiler(cache_dir, spec.target)
        self.device = Device(
            kind=DeviceKind.ESTIMATE,
            name=spec.name,
            target=spec.target,
            shared_bytes=spec.shared_per_block,
            triton_version=triton_version(),
            method=f"time model {REVISION}",
        )

    def space(self, problem: Problem) -> SearchSpace:
        """Raises DeviceError where the GPU cannot multiply the problem's dtype."""
        reason = why_no_dtype(problem.dtype, self.spec.target)
        if reason is not None:
            raise DeviceError(f"{self.spec.name} cannot run {problem.dtype.value}: {reason}")
        return space_of(problem, self.device)

    def prior_us(self, problem: Problem, configs: tuple[AnyConfig, ...]) -> tuple[float, ...]:
        """Return the model's times with guessed resources."""
        return static_us(problem, configs, self.spec, self._seed)

    def own_config(self, problem: Problem) -> None:
        """Return None: no engine is there."""

    def binaries(self, problem: Problem, configs: tuple[AnyConfig, ...]) -> tuple[Binaries, ...]:
        """Return none: nothing can be compiled ahead."""
        return ({},) * len(configs)

    def measure(
        self, problem: Problem, config: AnyConfig, *, stop: Stop | None = None
    ) -> TrialResult:
        """Compile both GEMMs unless their binaries are known, then model one sample for each
        routing instance: of the layer, or of a pair's GEMMs alone. Nothing is verified: there
        is nothing to run. What has lost to ``stop`` even if no register were short is given up
        before it is compiled."""
        pair = pair_of(config)
        for which in BOTH:
            reason = broken_rule(problem, self.device, getattr(pair, which))
            if reason is not None:
                return TrialResult(Outcome.INFEASIBLE, reason=reason, failed_half=which)
        lost = self._lost(problem, config, stop)
        if lost is not None:
            return lost
        begin = time.perf_counter()
        answers = {
            which: self._compiler.answer(problem, getattr(pair, which), which) for which in BOTH
        }
        compile_s = time.perf_counter() - begin
        for which, answer in answers.items():
            if isinstance(answer, CompileFailure):
                return failed_compile(replace(answer, which=which), compile_s)
            need, have = answer.shared_bytes, self.spec.shared_per_block
            if need > have:
                return TrialResult(
                    Outcome.OUT_OF_RESOURCES,
                    reason=f"compiled, it needs {need} bytes of shared memory; "
                    f"a block on {self.spec.name} has {have}",
                    failed_half=which,
                    resources=answer,
                    compile_s=compile_s,
                )
        resources = {w: a for w, a in answers.items() if isinstance(a, Resources)}
        begin = time.perf_counter()
        rows = self._rows(problem, config, resources)
        return TrialResult(
            Outcome.OK,
            Measurement.of_columns(tuple(zip(*rows, strict=True)), HOW, len(problem.routings)),
            resources=worse_of(*resources.values()),
            blocks_per_sm=held_blocks(config, answers, self.device),
            compile_s=compile_s,
            measure_s=time.perf_counter() - begin,
        )

    def measure_interleaved(
        self, problem: Problem, configs: tuple[AnyConfig, ...]
    ) -> tuple[TrialResult, ...]:
        """Nothing here changes with time: one after the other."""
        return tuple(self.measure(problem, config) for config in configs)

    def close(self) -> None:
        """Nothing is held."""

    def _lost(self, problem: Problem, config: AnyConfig, stop: Stop | None) -> TrialResult | None:
        if stop is None:
            return None
        pair, target = pair_of(config), self.spec.target
        best: dict[Which, Resources] = {
            which: Resources(1, 0, shared_bytes(problem, getattr(pair, which), target))
            for which in BOTH
        }
        rows = self._rows(problem, config, best)
        kept, cut = taken(rows, len(rows), stop)
        if cut is None:
            return None
        columns, kinds = tuple(zip(*kept, strict=True)), len(problem.routings)
        measurement = Measurement.of_columns(columns, HOW, kinds)
        return TrialResult(
            Outcome.PRUNED,
            replace(measurement, extrapolated_us=cut.geomean_us),
            reason=f"without a compile, at best: {cut.reason}",
        )

    def _rows(
        self, problem: Problem, config: AnyConfig, resources: Mapping[Which, Resources]
    ) -> list[Row]:
        """Return the modelled µs of each routing instance."""
        count = instances_of(problem, INSTANCES)
        routings = [routed_rows(problem, instance, self._seed) for instance in range(count)]
        if isinstance(config, ConfigPair):
            compiled = {which: [found] for which, found in resources.items()}
            times = gemms_us(problem, [config], self.spec, routings, compiled)[:, :, 0]
        else:
            worst = worse_of(*resources.values())
            times = model_us(problem, [config], self.spec, routings, [worst])
        return [tuple(row) for row in times.tolist()]
