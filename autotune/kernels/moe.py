"""One MoE layer call: align → up GEMM → activation → down GEMM → sum.

Buffers (R = M * top_k slots, EM = padded slots of the largest BLOCK_SIZE_M):

    alignment   sorted ids [EM], expert ids [R], padded count [1], counts [E]   int32
    up          [R, 2N]         C's type, output of the up GEMM; [R, N] where there is no gate
    rows        [R, N]          A's type, input of the down GEMM (the activation's output)
    row_scale   [1] | [R] | [R, ceil(N / gk)]  float32
                                these two have EM rows where down may use TMA: then they lie
                                sorted by expert and padded, row = position, not slot
    down        [M, top_k, H]   C's type
    out         [M, H]          C's type

A call allocates nothing and waits for nothing, so a CUDA graph can capture it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from autotune.kernels.activation import (
    Quantized,
    SortedRows,
    activate,
    activate_quantized,
    sum_slots,
)
from autotune.kernels.align import Alignment, align
from autotune.kernels.inputs import GemmWeights, MoeInputs
from autotune.kernels.launch import GemmOperands, launch_gemm
from autotune.kernels.quantize import largest, row_tile, truncates
from autotune.spec.binary import Scales, gemm_shape, scales_of
from autotune.spec.config import AnyConfig, Config, pair_of
from autotune.spec.limits import why_no_tma
from autotune.spec.problem import KernelMode, padded_slots

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
        """Fill outputs with NaN, so that what a kernel leaves out shows."""
        for buffer in (self.up, self.down, self.out):
            buffer.fill_(float("nan"))


def make_buffers(inputs: MoeInputs) -> MoeBuffers:
    """Buffers on the inputs' device."""
    problem, elements = inputs.problem, inputs.elements
    device, slots = inputs.x.device, problem.tokens * problem.top_k
    rows = padded_slots(problem, LARGEST_BLOCK_SIZE_M) if _may_sort(inputs) else slots

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
        up=empty(slots, gemm_shape(problem, "up").n, dtype=elements.c),
        rows=_empty_rows(inputs, rows),
        down=empty(problem.tokens, problem.top_k, problem.hidden, dtype=elements.c),
        out=empty(problem.tokens, problem.hidden, dtype=elements.c),
    )


def run_moe(inputs: MoeInputs, buffers: MoeBuffers, config: AnyConfig) -> Tensor:
    """Return the layer's output [M, H], which is ``buffers.out``.

    Raises ValueError where down uses TMA and the buffers were not made for it.
    """
    pair = pair_of(config)
    align(inputs.topk_ids, pair.up.block_size_m, buffers.alignment)
    run_up(inputs, buffers, pair.up)
    sorts = bool(pair.down.use_tma)
    run_activation(inputs, buffers, pair.up.block_size_m, sorts=sorts)
    run_down(inputs, buffers, pair.down)
    sum_slots(buffers.down, inputs.topk_ids, buffers.out)
    return buffers.out


def run_up(inputs: MoeInputs, buffers: MoeBuffers, config: Config) -> None:
    """``inputs.x`` × w1 → ``buffers.up``; the alignment must be that of the config."""
    operands = _operands(inputs, buffers, (inputs.x, inputs.x_scale), inputs.weights.up, buffers.up)
    launch_gemm(operands, inputs.problem, config, "up", inputs.target)


def run_activation(
    inputs: MoeInputs, buffers: MoeBuffers, block_size_m: int, *, sorts: bool
) -> None:
    """``buffers.up`` → ``buffers.rows``. ``sorts``: rows go where a down GEMM with TMA needs them.

    Raises ValueError where it sorts and the buffers were not made for it.
    """
    alignment, order = buffers.alignment, None
    if sorts:
        if not _may_sort(inputs):
            raise ValueError(f"{inputs.problem.name}: the buffers have no room for sorted rows")
        order = SortedRows(
            alignment.sorted_token_ids,
            alignment.num_tokens_post_padded,
            padded_slots(inputs.problem, block_size_m),
        )
    if inputs.elements.quantizes_activations:
        activate_quantized(buffers.up, inputs.topk_ids, buffers.rows, order)
    else:
        activate(buffers.up, inputs.topk_ids, buffers.rows.values, order)


def run_down(inputs: MoeInputs, buffers: MoeBuffers, config: Config) -> None:
    """``buffers.rows`` × w2 × routing weights → ``buffers.down``; reads sorted rows under TMA."""
    rows = buffers.rows
    operands = _operands(
        inputs, buffers, (rows.values, rows.scale), inputs.weights.down, buffers.down
    )
    launch_gemm(operands, inputs.problem, config, "down", inputs.target)


def _may_sort(inputs: MoeInputs) -> bool:
    """Return whether a config of the down GEMM may use TMA."""
    problem = inputs.problem
    return problem.kernel is KernelMode.SEPARATE and why_no_tma(problem, inputs.target) is None


def _operands(
    inputs: MoeInputs, buffers: MoeBuffers, a: tuple[Tensor, Tensor], b: GemmWeights, c: Tensor
) -> GemmOperands:
    return GemmOperands(
        a=a[0],
        b=b.values,
        c=c,
        a_scale=a[1],
        b_scale=b.scale,
        b_zero=b.zero,
        topk_weights=inputs.topk_weights,
        sorted_token_ids=buffers.alignment.sorted_token_ids,
        expert_ids=buffers.alignment.expert_ids,
        num_tokens_post_padded=buffers.alignment.num_tokens_post_padded,
    )


def _empty_rows(inputs: MoeInputs, count: int) -> Quantized:
    problem, elements = inputs.problem, inputs.elements
    device, n = inputs.x.device, problem.intermediate
    group = row_tile(problem, count, n)[1]
    has_own_scales = scales_of(problem) in (Scales.CHANNEL, Scales.BLOCK)
    scale = inputs.weights.down_row_scale
    if elements.quantizes_activations and has_own_scales:
        scale = torch.empty((count, -(-n // group)), device=device)
    return Quantized(
        values=torch.empty((count, n), dtype=elements.a, device=device),
        scale=scale,
        group=group,
        largest=largest(elements.a, problem.dtype),
        cuts=truncates(problem),
    )
