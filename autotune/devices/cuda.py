"""Measures on a real GPU: compile, verify against the eager twin, time.

Lives in a child process (tune/child.py). What a config can cause and leave the process whole
is an outcome; an illegal memory access poisons the CUDA context, so it is raised and the
child is started afresh.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from triton.runtime.errors import OutOfResources

from autotune.devices.options import MeasurerOptions
from autotune.devices.prior import static_us
from autotune.devices.specs import known_spec
from autotune.devices.versions import triton_version
from autotune.errors import DeviceError
from autotune.kernels.ahead import CompileFailure, resources_of
from autotune.kernels.binary import BOTH
from autotune.kernels.config import AnyConfig, ConfigPair, pair_of
from autotune.kernels.device import Device, DeviceKind, Target
from autotune.kernels.inputs import (
    MoeInputs,
    MoeWeights,
    RoutingTensors,
    make_inputs,
    make_routing,
    make_weights,
    weights_key,
)
from autotune.kernels.limits import why_no_dtype
from autotune.kernels.measurement import Measurement, Resources
from autotune.kernels.moe import MoeBuffers, make_buffers, run_down, run_moe, run_up
from autotune.kernels.problem import Problem
from autotune.kernels.timing import CudaClock, GraphTimer, Timer
from autotune.kernels.twins import moe_twin
from autotune.kernels.verify import Verdict, verify
from autotune.studies.outcome import Outcome, TrialResult
from autotune.studies.pairs import space_of
from autotune.studies.space import SearchSpace, broken_rule

INSTANCES = 10
"""Routing instances, one sample each: on an H200 samples spread by 0.2 to 6 %."""

METHOD = "whole layer, 1"
"""What is timed (alignment, both GEMMs, activation, sum; of separate kernels the GEMMs alone),
and the revision of how."""


_REFUSALS = (
    "invalid argument",
    "invalid configuration argument",
    "too many resources requested for launch",
    "no kernel image is available",
)
"""What the driver says of a launch that it did not begin (CUDA driver API, CUresult 1, 701, 209,
and the runtime's 9): later calls work. After any other error, as an illegal address, none does."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A problem's tensors on the GPU, and the right answer for its first routing instance."""

    inputs: MoeInputs
    buffers: MoeBuffers
    routings: tuple[RoutingTensors, ...]
    reference: torch.Tensor


class CudaMeasurer:
    """One GPU. Keeps the tensors of the problem at hand; weights outlive a change of tokens."""

    def __init__(self, index: int, options: MeasurerOptions, *, instances: int = INSTANCES) -> None:
        """Takes GPU ``index``; raises DeviceError where there is no such GPU."""
        count = torch.cuda.device_count()
        if index >= count:
            raise DeviceError(
                f"no GPU {index}: PyTorch sees {count}; check nvidia-smi and CUDA_VISIBLE_DEVICES, "
                "or use --device estimate:NVIDIA_H200"
            )
        self._place = f"cuda:{index}"
        torch.cuda.set_device(index)
        torch.backends.cuda.matmul.allow_tf32 = False  # the twin is true fp32
        properties = torch.cuda.get_device_properties(index)
        self._device = device_of(properties, cold_l2=options.cold_l2)
        self._seed, self._instances = options.seed, instances
        clock = CudaClock(properties.L2_cache_size)
        self._timer: Timer = GraphTimer(clock, warm=not options.cold_l2)
        self._weights: tuple[Problem, MoeWeights] | None = None
        self._prepared: tuple[Problem, Prepared] | None = None
        self._halved: set[Problem] = set()

    @property
    def device(self) -> Device:
        """See ``Measurer``."""
        return self._device

    def space(self, problem: Problem) -> SearchSpace:
        """See ``Measurer``."""
        reason = why_no_dtype(problem.dtype, self._device.target)
        if reason:
            raise DeviceError(f"{self._device.name}: {reason}")
        return space_of(problem, self._device)

    def prior_us(
        self, problem: Problem, configs: tuple[AnyConfig, ...]
    ) -> tuple[float, ...] | None:
        """See ``Measurer``: the time model's guess where this GPU's figures are known."""
        spec = known_spec(self._device.name)
        return static_us(problem, configs, spec, self._seed) if spec else None

    def measure(
        self, problem: Problem, config: AnyConfig, *, stop_above_us: float | None = None
    ) -> TrialResult:
        """See ``Measurer``. ``measure_s`` is the time of verifying and timing."""
        for which in BOTH:
            reason = broken_rule(problem, self._device, getattr(pair_of(config), which))
            if reason is not None:
                return TrialResult(Outcome.INFEASIBLE, reason=reason, failed_half=which)
        begin = time.perf_counter()
        resources = resources_of(problem, config, self._device.target)
        compile_s = time.perf_counter() - begin
        if isinstance(resources, CompileFailure):
            return TrialResult(
                Outcome.COMPILE_ERROR,
                reason=resources.reason,
                failed_half=resources.which,
                compile_s=compile_s,
            )
        result = self._why_too_big(resources) or self._run(problem, config, stop_above_us)
        return replace(
            result,
            resources=resources,
            compile_s=compile_s,
            measure_s=time.perf_counter() - begin - compile_s,
        )

    def close(self) -> None:
        """See ``Measurer``."""
        self._prepared = self._weights = None
        torch.cuda.empty_cache()

    def _why_too_big(self, resources: Resources) -> TrialResult | None:
        need, have = resources.shared_bytes, self._device.shared_bytes
        if need <= have:
            return None
        reason = f"needs {need} bytes of shared memory; a block has {have}"
        return TrialResult(Outcome.OUT_OF_RESOURCES, reason=reason)

    def _run(self, problem: Problem, config: AnyConfig, stop_above_us: float | None) -> TrialResult:
        try:
            return self._attempt(problem, config, stop_above_us)
        except OutOfResources as error:
            return TrialResult(Outcome.OUT_OF_RESOURCES, reason=str(error))
        except RuntimeError as error:
            reason = _line(error)
            if not is_out_of_memory(error):
                if not is_harmless(error):
                    raise
                return TrialResult(Outcome.OUT_OF_RESOURCES, reason=reason)
        # Not in the handler: the error holds on to frames, and they to memory.
        return self._with_fewer(problem, config, stop_above_us, reason)

    def _attempt(
        self, problem: Problem, config: AnyConfig, stop_above_us: float | None
    ) -> TrialResult:
        prepared = self._prepare(problem)
        prepared.inputs.set_routing(prepared.routings[0])
        verdict = verify(prepared.inputs, prepared.buffers, config, prepared.reference)
        if not verdict.is_right:
            return _wrong(verdict)
        return self._timed(prepared, config, verdict, stop_above_us)

    def _with_fewer(
        self, problem: Problem, config: AnyConfig, stop_above_us: float | None, reason: str
    ) -> TrialResult:
        """Once more with half the routing instances, which this problem keeps: samples are in the
        order of the instances, so fewer ones still compare."""
        self.close()
        if problem in self._halved:
            return TrialResult(Outcome.OUT_OF_RESOURCES, reason=f"device memory: {reason}")
        self._halved.add(problem)
        return self._run(problem, config, stop_above_us)

    def _timed(
        self, prepared: Prepared, config: AnyConfig, verdict: Verdict, stop_above_us: float | None
    ) -> TrialResult:
        rows = self._gemm_samples(prepared, config) if isinstance(config, ConfigPair) else None
        samples = rows or ((us,) for us in self._layer_samples(prepared, config))
        first = next(samples)
        is_given_up = stop_above_us is not None and sum(first) > stop_above_us
        taken = (first,) if is_given_up else (first, *samples)
        how = f"{self._timer.how}, {len(taken)} routings"
        columns = tuple(zip(*taken, strict=True))
        return TrialResult(
            outcome=Outcome.PRUNED if is_given_up else Outcome.OK,
            measurement=Measurement.of_halves(*columns, how=f"GEMMs alone, {how}")
            if len(columns) == 2
            else Measurement(columns[0], how),
            relative_error=verdict.relative_error,
        )

    def _layer_samples(self, prepared: Prepared, config: AnyConfig) -> Iterator[float]:
        """µs of the whole layer, one for each routing instance."""
        instances = (partial(prepared.inputs.set_routing, r) for r in prepared.routings)
        return self._timer.samples(partial(_call, prepared, config), instances)

    def _gemm_samples(self, prepared: Prepared, pair: ConfigPair) -> Iterator[tuple[float, ...]]:
        """(up, down) µs, one for each routing instance. Each is timed on what the layer gives it:
        a new routing runs the layer once before."""
        inputs, buffers = prepared.inputs, prepared.buffers
        is_sorted = bool(pair.down.use_tma)
        calls = (
            partial(run_up, inputs, buffers, pair.up, is_sorted=is_sorted),
            partial(run_down, inputs, buffers, pair.down),
        )
        times = (
            self._timer.samples(
                call, (partial(_route, prepared, pair, r) for r in prepared.routings)
            )
            for call in calls
        )
        return zip(*times, strict=True)

    def _count(self, problem: Problem) -> int:
        """Routing instances of a problem."""
        return max(self._instances // 2, 1) if problem in self._halved else self._instances

    def _prepare(self, problem: Problem) -> Prepared:
        if self._prepared and self._prepared[0] == problem:
            return self._prepared[1]
        self._prepared = None
        key = weights_key(problem)
        if self._weights is None or self._weights[0] != key:
            self._weights = None
            torch.cuda.empty_cache()
            self._weights = key, make_weights(problem, self._device.target, self._place, self._seed)
        inputs = make_inputs(problem, self._weights[1], self._device.target, seed=self._seed)
        routings = tuple(
            make_routing(problem, instance, inputs.x.device, self._seed)
            for instance in range(self._count(problem))
        )
        prepared = Prepared(inputs, make_buffers(inputs), routings, moe_twin(inputs))
        self._prepared = problem, prepared
        return prepared


def _call(prepared: Prepared, config: AnyConfig) -> None:
    run_moe(prepared.inputs, prepared.buffers, config)


def _route(prepared: Prepared, pair: ConfigPair, routing: RoutingTensors) -> None:
    prepared.inputs.set_routing(routing)
    run_moe(prepared.inputs, prepared.buffers, pair)


def _wrong(verdict: Verdict) -> TrialResult:
    return TrialResult(
        Outcome.WRONG_RESULT, reason=str(verdict), relative_error=verdict.relative_error
    )


def is_out_of_memory(error: RuntimeError) -> bool:
    """True for PyTorch's and for Triton's word for a device without memory left."""
    return isinstance(error, torch.cuda.OutOfMemoryError) or "out of memory" in str(error)


def is_harmless(error: RuntimeError) -> bool:
    """True for CUDA's refusals of a launch. All others may have left the context unusable."""
    words = str(error)
    return "CUDA" in words and any(refusal in words for refusal in _REFUSALS)


def _line(error: RuntimeError) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def device_of(properties: Any, *, cold_l2: bool) -> Device:
    """The GPU's facts, from torch's properties of it."""
    is_amd = torch.version.hip is not None
    if is_amd:
        target = Target("hip", properties.gcnArchName.partition(":")[0], properties.warp_size)
    else:
        target = Target("cuda", 10 * properties.major + properties.minor, properties.warp_size)
    return Device(
        kind=DeviceKind.CUDA,
        name=properties.name,
        target=target,
        shared_bytes=_shared_bytes(properties, is_amd=is_amd),
        triton_version=triton_version(),
        method=f"{METHOD}, {'cold' if cold_l2 else 'warm'} L2",
    )


def _shared_bytes(properties: Any, *, is_amd: bool) -> int:
    """What a block may take when it asks for it; AMD's has no such opt-in."""
    name = "shared_memory_per_block" if is_amd else "shared_memory_per_block_optin"
    return int(getattr(properties, name))
