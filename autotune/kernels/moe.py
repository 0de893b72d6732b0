"""One MoE layer call: align → up GEMM → activation → down GEMM → sum.

Buffers (R = M * top_k slots, EM = padded slots of the largest BLOCK_SIZE_M):

    alignment   sorted ids [EM], expert ids [R], padded count [1], counts [E]   int32
    up          [R, 2N]         C's type, output of the up GEMM
    rows        [R, N]          A's type, input of the down GEMM (the activation's output)
    row_scale   [1] | [R] | [R, ceil(N / gk)]  float32
    down        [M, top_k, H]   C's type
    out         [M, H]          C's type

A call allocates nothing and waits for nothing, so a CUDA graph can capture it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from autotune.kernels.activation import Quantized, silu_and_mul, silu_and_mul_quantized
from autotune.kernels.align import Alignment, align
from autotune.kernels.binary import Scales, scales_of
from autotune.kernels.config import Config
from autotune.kernels.gemm import GemmOperands, launch_gemm, padded_slots
from autotune.kernels.inputs import MoeInputs
from autotune.kernels.quantize import largest, row_tile
from autotune.kernels.reduce import sum_slots

LARGEST_BLOCK_SIZE_M = 256
"""Buffers fit every BLOCK_SIZE_M up to this."""


@dataclass(frozen=True, slots=True)
class MoeBuffers:
    """Everything a call writes, made once per problem."""

    alignment: Alignment
    up: Tensor
    rows: Quantized
    down: Tensor
    out: Tensor

    def poison(self) -> None:
        """Fills outputs with NaN, so that what a kernel leaves out shows."""
        for buffer in (self.up, self.down, self.out):
            buffer.fill_(float("nan"))


def make_buffers(inputs: MoeInputs) -> MoeBuffers:
    """Buffers on the inputs' device."""
    problem, elements = inputs.problem, inputs.elements
    device, slots = inputs.x.device, problem.tokens * problem.top_k

    def empty(*shape: int, dtype: torch.dtype) -> Tensor:
        return torch.empty(shape, dtype=dtype, device=device)

    alignment = Alignment(
        sorted_token_ids=empty(padded_slots(problem, LARGEST_BLOCK_SIZE_M), dtype=torch.int32),
        expert_ids=empty(slots, dtype=torch.int32),
        num_tokens_post_padded=empty(1, dtype=torch.int32),
        counts=empty(problem.experts, dtype=torch.int32),
    )
    return MoeBuffers(
        alignment=alignment,
        up=empty(slots, 2 * problem.intermediate, dtype=elements.c),
        rows=_empty_rows(inputs, slots),
        down=empty(problem.tokens, problem.top_k, problem.hidden, dtype=elements.c),
        out=empty(problem.tokens, problem.hidden, dtype=elements.c),
    )


def run_moe(
    inputs: MoeInputs, buffers: MoeBuffers, config: Config, down_config: Config | None = None
) -> Tensor:
    """The layer's output [M, H], which is ``buffers.out``.

    ``down_config`` defaults to ``config`` and must share its BLOCK_SIZE_M: one alignment feeds
    both GEMMs.
    """
    down_config = down_config or config
    if down_config.block_size_m != config.block_size_m:
        raise ValueError(f"up is {config} and down {down_config}: BLOCK_SIZE_M must be the same")
    align(inputs.topk_ids, config.block_size_m, buffers.alignment)
    run_up(inputs, buffers, config)
    run_activation(inputs, buffers)
    run_down(inputs, buffers, down_config)
    sum_slots(buffers.down, inputs.topk_ids, buffers.out)
    return buffers.out


def run_up(inputs: MoeInputs, buffers: MoeBuffers, config: Config) -> None:
    """``inputs.x`` × w1 → ``buffers.up``; the alignment must be that of the config."""
    weights = inputs.weights.up
    operands = _operands(
        inputs, buffers, (inputs.x, inputs.x_scale), (weights.values, weights.scale), buffers.up
    )
    launch_gemm(operands, inputs.problem, config, "up")


def run_activation(inputs: MoeInputs, buffers: MoeBuffers) -> None:
    """``buffers.up`` → ``buffers.rows``."""
    if inputs.elements.quantizes_activations:
        silu_and_mul_quantized(buffers.up, inputs.topk_ids, buffers.rows)
    else:
        silu_and_mul(buffers.up, inputs.topk_ids, buffers.rows.values)


def run_down(inputs: MoeInputs, buffers: MoeBuffers, config: Config) -> None:
    """``buffers.rows`` × w2 × routing weights → ``buffers.down``."""
    weights, rows = inputs.weights.down, buffers.rows
    operands = _operands(
        inputs, buffers, (rows.values, rows.scale), (weights.values, weights.scale), buffers.down
    )
    launch_gemm(operands, inputs.problem, config, "down")


def _operands(
    inputs: MoeInputs,
    buffers: MoeBuffers,
    a: tuple[Tensor, Tensor],
    b: tuple[Tensor, Tensor],
    c: Tensor,
) -> GemmOperands:
    return GemmOperands(
        a=a[0],
        b=b[0],
        c=c,
        a_scale=a[1],
        b_scale=b[1],
        topk_weights=inputs.topk_weights,
        sorted_token_ids=buffers.alignment.sorted_token_ids,
        expert_ids=buffers.alignment.expert_ids,
        num_tokens_post_padded=buffers.alignment.num_tokens_post_padded,
    )


def _empty_rows(inputs: MoeInputs, slots: int) -> Quantized:
    problem, elements = inputs.problem, inputs.elements
    device, n = inputs.x.device, problem.intermediate
    group = row_tile(problem, slots, n)[1]
    has_own_scales = scales_of(problem) in (Scales.CHANNEL, Scales.BLOCK)
    scale = inputs.weights.down_row_scale
    if elements.quantizes_activations and has_own_scales:
        scale = torch.empty((slots, -(-n // group)), device=device)
    return Quantized(
        values=torch.empty((slots, n), dtype=elements.a, device=device),
        scale=scale,
        group=group,
        largest=largest(elements.a, problem.dtype),
    )
