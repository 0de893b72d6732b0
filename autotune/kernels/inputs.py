"""Weights, activations and routing of a problem as tensors, made once and shared by configs.

Weights are by far the largest and do not depend on the batch size: ``problem.weights_key`` tells
which problems can share them. Quantised ones come from quantising real values whose magnitude
differs from tile to tile, so that a scale read at a wrong place shows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from autotune.kernels.quantize import (
    StorageDtypes,
    Tile,
    largest,
    pack_int4,
    pack_int4_rows,
    quantize,
    quantize_asymmetric,
    row_tile,
    spread,
    storage_dtypes_of,
    weight_tile,
)
from autotune.routing.draw import route
from autotune.spec.binary import (
    BOTH,
    Scales,
    Which,
    gemm_shape,
    has_zero_points,
    scales_of,
    weight_row,
)
from autotune.spec.device import Target
from autotune.spec.problem import Dtype, Problem


@dataclass(frozen=True, slots=True)
class GemmWeights:
    """B of one GEMM: values [E, n, k] (k/2 bytes for int4) and scales, float32, per expert."""

    values: Tensor
    scale: Tensor
    """[E] | [E, n] | [E, ceil(n / gn), ceil(k / gk)]; [1] where there are none. Those of groups
    along K hold values of C's type, in which engines store them."""
    zero: Tensor | None = None
    """Zero points: [E, n, ceil(k / gk)] int8, for int4 [E, ceil(n / 2), ceil(k / gk)] uint8."""


@dataclass(frozen=True, slots=True)
class MoeWeights:
    """Both weights, and the scale of the down GEMM's activations where one serves all."""

    up: GemmWeights
    down: GemmWeights
    down_row_scale: Tensor
    """[1] float32, read for Scales.TENSOR alone."""


@dataclass(frozen=True, slots=True)
class RoutingTensors:
    """A routing instance on the device."""

    ids: Tensor
    """[M, top_k] int32."""
    weights: Tensor
    """[M, top_k] float32."""


@dataclass(frozen=True, slots=True)
class MoeInputs:
    """Tensors of one MoE call. ``topk_ids`` and ``topk_weights`` hold the current routing."""

    problem: Problem
    target: Target
    """The architecture that the kernels run on."""
    elements: StorageDtypes
    weights: MoeWeights
    x: Tensor
    """[M, H] of A's type."""
    x_scale: Tensor
    """[1] | [M] | [M, ceil(H / gk)] float32."""
    topk_ids: Tensor
    """[M, top_k] int32."""
    topk_weights: Tensor
    """[M, top_k] float32."""

    def set_routing(self, routing: RoutingTensors) -> None:
        """Copy another instance in, in stream order: the tensors stay where they are."""
        self.topk_ids.copy_(routing.ids)
        self.topk_weights.copy_(routing.weights)


def make_routing(
    problem: Problem, instance: int, device: torch.device, seed: int = 0
) -> RoutingTensors:
    """``routing.route`` on ``device``."""
    routing = route(problem, instance, seed)
    return RoutingTensors(
        torch.from_numpy(routing.ids).to(device), torch.from_numpy(routing.weights).to(device)
    )


def make_weights(problem: Problem, target: Target, device: str, seed: int = 0) -> MoeWeights:
    """Seeded weights; w1 and w2 map values of variance 1 to variance about 1."""
    generator = torch.Generator(device).manual_seed(seed)
    up, down = (_make_gemm_weights(problem, which, target, generator) for which in BOTH)
    # Of unit normals silu(gate) * up has a root mean square of about 0.6, relu(up)^2 of 1.2; few
    # values of either are past 16.
    limit = 16.0 / largest(storage_dtypes_of(problem.dtype, target).a, problem.dtype)
    return MoeWeights(up, down, down_row_scale=torch.full((1,), limit, device=device))


def make_inputs(
    problem: Problem, weights: MoeWeights, target: Target, *, seed: int = 0
) -> MoeInputs:
    """Seeded activations and routing instance 0, on the device that holds ``weights``."""
    device = weights.up.values.device
    generator = torch.Generator(device).manual_seed(seed + 1)
    elements = storage_dtypes_of(problem.dtype, target)
    tile = row_tile(problem, problem.tokens, problem.hidden)
    # As C's type holds it: whoever gets it real and quantises it gets the same values and scales.
    x = _real((problem.tokens, problem.hidden), tile, generator).to(elements.c)
    scale = torch.ones(1, device=device)
    if elements.quantizes_activations:
        x, scale = quantize(x, tile, elements.a, largest(elements.a, problem.dtype))
        scale = scale if scales_of(problem) is Scales.BLOCK else scale.flatten()
    routing = make_routing(problem, 0, device, seed)
    return MoeInputs(
        problem=problem,
        target=target,
        elements=elements,
        weights=weights,
        x=x.to(elements.a),
        x_scale=scale,
        topk_ids=routing.ids.clone(),
        topk_weights=routing.weights.clone(),
    )


def _make_gemm_weights(
    problem: Problem, which: Which, target: Target, generator: torch.Generator
) -> GemmWeights:
    """Expert by expert: the real values of all of them would not fit beside the quantised."""
    shape, element = gemm_shape(problem, which), storage_dtypes_of(problem.dtype, target).b
    device = generator.device
    tile = weight_tile(problem, shape.n, shape.k)
    size = (problem.experts, shape.n, weight_row(problem, which))
    values = torch.empty(size, dtype=element, device=device)
    scales: list[Tensor] = []
    zeros: list[Tensor] = []
    for expert in range(problem.experts):
        real = _real((shape.n, shape.k), tile, generator) / math.sqrt(shape.k)
        if not problem.dtype.is_quantized:
            values[expert] = real.to(element)
            continue
        if has_zero_points(problem):
            stored, scale, zero = _quantize_asymmetric(real, tile, problem.dtype)
            zeros.append(zero)
        else:
            stored, scale = _quantize_expert(real, tile, element, problem.dtype)
        values[expert] = stored
        scales.append(_as_stored(scale, problem, target))
    stacked = _stack(scales, scales_of(problem), device)
    return GemmWeights(values, stacked, torch.stack(zeros) if zeros else None)


def _as_stored(scale: Tensor, problem: Problem, target: Target) -> Tensor:
    """Scales of groups along K rounded to C's type, in float32; others as they are."""
    if scales_of(problem) is not Scales.GROUP:
        return scale
    return scale.to(storage_dtypes_of(problem.dtype, target).c).float()


def _quantize_asymmetric(real: Tensor, tile: Tile, dtype: Dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Values, scales and zero points as stored; AWQ packs the zero points of two columns."""
    values, scale, zero = quantize_asymmetric(real, tile, dtype.weight_bits)
    if dtype is not Dtype.INT4_W4A16:
        return values, scale, zero
    return pack_int4(values), scale, pack_int4_rows(zero)


def _quantize_expert(
    real: Tensor, tile: Tile, element: torch.dtype, dtype: Dtype
) -> tuple[Tensor, Tensor]:
    if dtype is not Dtype.INT4_W4A16:
        return quantize(real, tile, element, largest(element, dtype))
    values, scale = quantize(real, tile, torch.int8, largest(element, dtype))
    return pack_int4(values), scale


def _stack(scales: list[Tensor], kind: Scales, device: torch.device) -> Tensor:
    """Per-expert scales in the kernel's layout."""
    if kind is Scales.NONE:
        return torch.ones(1, device=device)
    stacked = torch.stack(scales)
    if kind in (Scales.BLOCK, Scales.GROUP):
        return stacked.contiguous()
    return stacked.flatten() if kind is Scales.TENSOR else stacked.flatten(1).contiguous()


def _real(shape: tuple[int, int], tile: Tile, generator: torch.Generator) -> Tensor:
    """Normal values, root mean square about 1; each tile's magnitude differs up to a factor 4."""
    device = generator.device
    values = torch.randn(shape, generator=generator, device=device)
    tiles = [-(-size // edge) for size, edge in zip(shape, tile, strict=True)]
    magnitude = torch.exp2(2 * torch.rand(tiles, generator=generator, device=device) - 1)
    return values * spread(magnitude, tile, values.shape)
