"""Measures on a real GPU: compile, verify against the eager twin, time.

Lives in a child process (tune/child.py). What a config can cause and leave the process whole
is an outcome; an illegal memory access poisons the CUDA context, so it is raised and the
child is started afresh.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import partial
from typing import Any

import torch
from triton.runtime.errors import OutOfResources

from autotune.backends.binary_compiler import BinaryCompiler, held_blocks
from autotune.backends.estimate.prior import static_us
from autotune.backends.gpu.lru_by_size import LruBySize
from autotune.backends.hardware import known_spec
from autotune.backends.options import MeasurerOptions
from autotune.backends.protocol import timed_together
from autotune.backends.versions import triton_version
from autotune.errors import DeviceError
from autotune.kernels.inputs import (
    MoeInputs,
    MoeWeights,
    RoutingTensors,
    make_inputs,
    make_routing,
    make_weights,
)
from autotune.kernels.moe import MoeBuffers, make_buffers, run_down, run_moe, run_up
from autotune.kernels.reference import moe_reference
from autotune.kernels.timing import CudaClock, GraphTimer, Timer, interleaved
from autotune.kernels.verify import Verdict, verify
from autotune.routing.draw import instances_of
from autotune.spec.binary import BOTH
from autotune.spec.config import AnyConfig, ConfigPair, pair_of
from autotune.spec.device import Device, DeviceKind, Target
from autotune.spec.limits import why_no_dtype
from autotune.spec.measurement import CompileFailure, Measurement, Resources, worse_of
from autotune.spec.problem import Problem, weights_key
from autotune.studies.outcome import Outcome, TrialResult, failed_compile
from autotune.studies.pairs import space_of
from autotune.studies.search.pruning import Row, Stop, taken
from autotune.studies.space import SearchSpace, broken_rule

INSTANCES = 10
"""Routing instances, one sample each: on an H200 samples spread by 0.2 to 6 %."""

METHOD = "whole layer, 4"
"""What is timed (alignment, both GEMMs, activation, sum; of separate kernels the GEMMs alone),
and the revision of how: since 2 the GPU rests after long calls, since 3 a tile begins sooner,
since 4 the K loop keeps about as few registers as SGLang's."""


_KEPT_SHARE = 0.25
"""Of the device memory that weights leave free, for the tensors of problems that may come back.
Making them took 20 to 340 ms on an H200 (Qwen3-30B-A3B, 2 to 4096 tokens), as long as 3 to 16
trials."""

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

    @property
    def own_bytes(self) -> int:
        """Of device memory, without the weights that it shares."""
        return sum(tensor.nbytes for tensor in _tensors(self))


_Timed = Callable[[Prepared, AnyConfig], TrialResult]
"""What is done with a config that computes the right thing."""


class CudaMeasurer:
    """One GPU. Keeps the tensors of the problems of one set of weights, as far as there is room."""

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
        self._compiler = BinaryCompiler(options.cache_dir, self._device.target)
        self._seed, self._instances = options.seed, instances
        clock = CudaClock(properties.L2_cache_size)
        self._timer: Timer = GraphTimer(clock, warm=not options.cold_l2)
        self._weights: tuple[Problem, MoeWeights] | None = None
        self._prepared: LruBySize[Problem, Prepared] = LruBySize()
        self._kept_share, self._room_bytes = _KEPT_SHARE, 0
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
        self, problem: Problem, config: AnyConfig, *, stop: Stop | None = None
    ) -> TrialResult:
        """See ``Measurer``."""
        return self._answer(problem, config, partial(self._timed, stop=stop))

    def measure_interleaved(
        self, problem: Problem, configs: tuple[AnyConfig, ...]
    ) -> tuple[TrialResult, ...]:
        """See ``Measurer``. Each is compiled and verified first, all are timed then; where their
        graphs together take more memory than there is, one after the other."""
        checked = [self._answer(problem, config, _untimed) for config in configs]
        try:
            return timed_together(
                checked, lambda right: self._interleaved(problem, [configs[n] for n in right])
            )
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
        # Not in the handler: the error holds on to frames, and they to memory.
        torch.cuda.empty_cache()
        return tuple(self.measure(problem, config) for config in configs)

    def _interleaved(self, problem: Problem, configs: Sequence[AnyConfig]) -> list[Measurement]:
        prepared = self._prepare(problem)
        streams = [self._rows(prepared, config) for config in configs]
        found = interleaved(streams, len(prepared.routings))
        return [self._measurement(prepared, rows) for rows in found]

    def _answer(self, problem: Problem, config: AnyConfig, timed: _Timed) -> TrialResult:
        for which in BOTH:
            reason = broken_rule(problem, self._device, getattr(pair_of(config), which))
            if reason is not None:
                return TrialResult(Outcome.INFEASIBLE, reason=reason, failed_half=which)
        begin = time.perf_counter()
        answers = {w: self._compiler.answer(problem, getattr(pair_of(config), w), w) for w in BOTH}
        compile_s = time.perf_counter() - begin
        for which, answer in answers.items():
            if isinstance(answer, CompileFailure):
                return failed_compile(replace(answer, which=which), compile_s)
        resources = worse_of(*(a for a in answers.values() if isinstance(a, Resources)))
        result = self._why_too_big(resources) or self._run(problem, config, timed)
        return replace(
            result,
            resources=resources,
            blocks_per_sm=held_blocks(config, answers, self._device),
            compile_s=compile_s,
            measure_s=time.perf_counter() - begin - compile_s - result.verify_s,
        )

    def close(self) -> None:
        """See ``Measurer``."""
        self._prepared.clear()
        self._weights = None
        torch.cuda.empty_cache()

    def _why_too_big(self, resources: Resources) -> TrialResult | None:
        need, have = resources.shared_bytes, self._device.shared_bytes
        if need <= have:
            return None
        reason = f"needs {need} bytes of shared memory; a block has {have}"
        return TrialResult(Outcome.OUT_OF_RESOURCES, reason=reason)

    def _run(self, problem: Problem, config: AnyConfig, timed: _Timed) -> TrialResult:
        try:
            return self._attempt(problem, config, timed)
        except OutOfResources as error:
            return TrialResult(Outcome.OUT_OF_RESOURCES, reason=str(error))
        except RuntimeError as error:
            reason = _line(error)
            if not is_out_of_memory(error):
                if not is_harmless(error):
                    raise
                return TrialResult(Outcome.OUT_OF_RESOURCES, reason=reason)
        # Not in the handler: the error holds on to frames, and they to memory.
        return self._with_fewer(problem, config, timed, reason)

    def _attempt(self, problem: Problem, config: AnyConfig, timed: _Timed) -> TrialResult:
        prepared = self._prepare(problem)
        prepared.inputs.set_routing(prepared.routings[0])
        begin = time.perf_counter()
        verdict = verify(prepared.inputs, prepared.buffers, config, prepared.reference)
        verify_s = time.perf_counter() - begin
        if not verdict.is_right:
            return replace(_wrong(verdict), verify_s=verify_s)
        result = timed(prepared, config)
        return replace(result, verify_s=verify_s, relative_error=verdict.relative_error)

    def _with_fewer(
        self, problem: Problem, config: AnyConfig, timed: _Timed, reason: str
    ) -> TrialResult:
        """Once more: where other problems were kept, without them and from now on without any;
        else with half the routing instances, which this problem keeps: samples are in the order
        of the instances, so fewer ones still compare."""
        has_others = any(other != problem for other in self._prepared)
        self.close()
        if has_others:
            self._kept_share = 0.0
            return self._run(problem, config, timed)
        if problem in self._halved:
            return TrialResult(Outcome.OUT_OF_RESOURCES, reason=f"device memory: {reason}")
        self._halved.add(problem)
        return self._run(problem, config, timed)

    def _timed(self, prepared: Prepared, config: AnyConfig, *, stop: Stop | None) -> TrialResult:
        kept, cut = taken(self._rows(prepared, config), len(prepared.routings), stop)
        measurement = self._measurement(prepared, kept)
        return TrialResult(
            outcome=Outcome.PRUNED if cut else Outcome.OK,
            measurement=replace(measurement, extrapolated_us=cut.geomean_us if cut else None),
            reason=cut.reason if cut else "",
        )

    def _measurement(self, prepared: Prepared, rows: Sequence[Row]) -> Measurement:
        how = f"{self._timer.how}, {len(rows)} routings"
        columns = tuple(zip(*rows, strict=True))
        kinds = len(prepared.inputs.problem.routings)
        if len(columns) == 2:
            return Measurement.of_halves(*columns, how=f"GEMMs alone, {how}", routings=kinds)
        return Measurement(columns[0], how, routings=kinds)

    def _rows(self, prepared: Prepared, config: AnyConfig) -> Iterator[Row]:
        """µs of the layer, or of a pair's GEMMs, one row for each routing instance."""
        if isinstance(config, ConfigPair):
            return self._gemm_samples(prepared, config)
        return ((us,) for us in self._layer_samples(prepared, config))

    def _layer_samples(self, prepared: Prepared, config: AnyConfig) -> Iterator[float]:
        """µs of the whole layer, one for each routing instance."""
        instances = (partial(prepared.inputs.set_routing, r) for r in prepared.routings)
        return self._timer.samples(partial(_call, prepared, config), instances)

    def _gemm_samples(self, prepared: Prepared, pair: ConfigPair) -> Iterator[Row]:
        """(up, down) µs, one for each routing instance. Each is timed on what the layer gives it:
        a new routing runs the layer once before. So does capturing: another config's alignment
        may lie in the buffers, for other tiles."""
        _route(prepared, pair, prepared.routings[0])
        inputs, buffers = prepared.inputs, prepared.buffers
        calls = (
            partial(run_up, inputs, buffers, pair.up),
            partial(run_down, inputs, buffers, pair.down),
        )
        times = (
            self._timer.samples(
                call, (partial(_route, prepared, pair, r) for r in prepared.routings)
            )
            for call in calls
        )
        yield from zip(*times, strict=True)

    def _count(self, problem: Problem) -> int:
        """Routing instances of a problem."""
        halved = problem in self._halved
        return instances_of(problem, max(self._instances // 2, 1) if halved else self._instances)

    def _prepare(self, problem: Problem) -> Prepared:
        kept = self._prepared.get(problem)
        if kept is not None:
            return kept
        weights = self._weights_of(problem)
        inputs = make_inputs(problem, weights, self._device.target, seed=self._seed)
        routings = tuple(
            make_routing(problem, instance, inputs.x.device, self._seed)
            for instance in range(self._count(problem))
        )
        prepared = Prepared(inputs, make_buffers(inputs), routings, moe_reference(inputs))
        self._prepared.put(problem, prepared, prepared.own_bytes, self._room_bytes)
        return prepared

    def _weights_of(self, problem: Problem) -> MoeWeights:
        """Others, and all that was prepared with them, go first: two may not fit."""
        key = weights_key(problem)
        if self._weights is None or self._weights[0] != key:
            self._prepared.clear()
            self._weights = None
            torch.cuda.empty_cache()
            self._weights = key, make_weights(problem, self._device.target, self._place, self._seed)
            self._room_bytes = int(self._kept_share * torch.cuda.mem_get_info()[0])
        return self._weights[1]


def _tensors(value: object) -> Iterator[torch.Tensor]:
    """Those of nested dataclasses and tuples, but for weights."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, tuple):
        for each in value:
            yield from _tensors(each)
    elif is_dataclass(value) and not isinstance(value, MoeWeights):
        for field in fields(value):
            yield from _tensors(getattr(value, field.name))


def _untimed(prepared: Prepared, config: AnyConfig) -> TrialResult:
    """Compiled and verified is enough."""
    return TrialResult(Outcome.OK)


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
