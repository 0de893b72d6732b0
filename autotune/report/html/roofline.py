"""The least time that a device's stated ceilings allow a layer, and how close a time comes."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean

from autotune.backends.hardware import GpuSpec, known_spec
from autotune.backends.routed_rows import routed_rows
from autotune.errors import DeviceError
from autotune.report.layers import TunedLayer
from autotune.routing.draw import drawable, instances_of
from autotune.spec.binary import BOTH, gemm_shape
from autotune.spec.problem import Problem

_ROUTINGS, _SEED = 10, 0
"""The routing instances that a measurement is made of."""
_OUTPUT_BYTES = 2


@dataclass(frozen=True, slots=True)
class LayerWork:
    """Bytes and FLOPs of one layer, mean over the routing instances. Each operand counts once, and
    what stays between the two GEMMs not at all: the least that any kernel must move."""

    bytes: float
    flops: float


@dataclass(frozen=True, slots=True)
class Roofline:
    """Least µs by device memory alone and by the matrix units alone."""

    memory_us: float
    compute_us: float

    @property
    def bound_us(self) -> float:
        return max(self.memory_us, self.compute_us)


def work_of(problem: Problem) -> LayerWork:
    """Count weights of experts with a token, the layer's input and output, and the GEMMs' FLOPs."""
    count = instances_of(problem, _ROUTINGS)
    rows = [routed_rows(problem, instance, _SEED) for instance in range(count)]
    shapes = [gemm_shape(problem, which) for which in BOTH]
    weights = sum(shape.n * shape.k for shape in shapes)
    expert = weights * problem.dtype.weight_bits / 8
    token = problem.hidden * (problem.dtype.activation_bits / 8 + _OUTPUT_BYTES)
    return LayerWork(
        bytes=fmean(row.active_experts * expert + row.tokens * token for row in rows),
        flops=fmean(row.total * 2 * weights for row in rows),  # two for each weight of a row
    )


def roofline(problem: Problem, spec: GpuSpec) -> Roofline:
    """Return the least time. Raises DeviceError where the GPU has no rate for the dtype."""
    work = work_of(problem)
    return Roofline(
        memory_us=work.bytes / (spec.memory_gb_s * 1e3),
        compute_us=work.flops / (spec.dense_tflops(problem.dtype) * 1e6),
    )


def rooflines_of(layer: TunedLayer) -> dict[int, Roofline]:
    """Return batch size → roofline; empty where the device's ceilings are not known, or the
    recording that was tuned on is not at hand."""
    spec = known_spec(layer.device.name)
    if spec is None or layer.problem != drawable(layer.problem):
        return {}
    try:
        return {size.tokens: roofline(size.problem, spec) for size in layer.sizes}
    except DeviceError:
        return {}
