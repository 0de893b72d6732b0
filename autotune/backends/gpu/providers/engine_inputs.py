"""Our tensors as the engines' fused MoE takes them: real activations, their scales' layouts."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from autotune.backends.gpu.providers.torch_layers import real_x
from autotune.kernels.inputs import GemmWeights, MoeInputs
from autotune.spec.binary import Scales, scales_of
from autotune.spec.problem import Dtype, Problem

_UINT8_ZERO = 128


@dataclass(frozen=True, slots=True)
class EngineWeights:
    """B of one GEMM in both engines' layout."""

    values: Tensor
    scale: Tensor | None
    zero: Tensor | None


@dataclass(frozen=True, slots=True)
class EngineInputs:
    """``x`` [M, H] of bf16, fp16 or fp32: the engine quantises it within the call."""

    x: Tensor
    up: EngineWeights
    down: EngineWeights
    x_scale: Tensor | None
    """[1], given for Scales.TENSOR alone; the rest is found in the call."""
    down_row_scale: Tensor | None
    block_shape: list[int] | None

    @classmethod
    def of(cls, inputs: MoeInputs) -> EngineInputs:
        problem, weights = inputs.problem, inputs.weights
        is_static = scales_of(problem) is Scales.TENSOR
        return cls(
            x=real_x(inputs),
            up=_weights(inputs, weights.up),
            down=_weights(inputs, weights.down),
            x_scale=inputs.x_scale.reshape(1) if is_static else None,
            down_row_scale=weights.down_row_scale if is_static else None,
            block_shape=list(problem.block_shape) if problem.block_shape else None,
        )


def dtype_flags(problem: Problem) -> dict[str, bool]:
    """Both engines' ``use_…`` flags."""
    names = (Dtype.FP8_W8A8, Dtype.INT8_W8A8, Dtype.INT8_W8A16, Dtype.INT4_W4A16)
    return {f"use_{dtype.value}": problem.dtype is dtype for dtype in names}


def _weights(inputs: MoeInputs, weights: GemmWeights) -> EngineWeights:
    """Integer weights in groups along K: bytes with 128 added, scales of C's type."""
    kind = scales_of(inputs.problem)
    if kind is Scales.NONE:
        return EngineWeights(weights.values, None, None)
    if kind is not Scales.GROUP:
        return EngineWeights(weights.values, weights.scale, None)
    scale = weights.scale.to(inputs.elements.c)
    if inputs.problem.dtype is Dtype.INT4_W4A16:
        return EngineWeights(weights.values, scale, weights.zero)
    zero = None if weights.zero is None else _as_bytes(weights.zero)
    return EngineWeights(_as_bytes(weights.values), scale, zero)


def _as_bytes(values: Tensor) -> Tensor:
    return (values.to(torch.int16) + _UINT8_ZERO).to(torch.uint8)
