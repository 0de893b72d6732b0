"""Launching the MoE GEMM: from operands, a problem and a config to the kernel's arguments."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor
from triton.runtime.jit import MockTensor
from triton.tools.tensor_descriptor import TensorDescriptor

from autotune.kernels.gemm import moe_gemm_kernel
from autotune.spec.binary import (
    Scales,
    Which,
    gemm_flags,
    gemm_shape,
    launch_options,
    swaps_operands,
    weight_row,
)
from autotune.spec.config import Config
from autotune.spec.device import Target
from autotune.spec.problem import Problem, padded_slots


@dataclass(frozen=True, slots=True)
class GemmOperands:
    """The pointers of one launch, in the shapes of this file's map."""

    a: Tensor
    b: Tensor
    c: Tensor
    a_scale: Tensor
    b_scale: Tensor
    b_zero: Tensor | None
    """None where weights have no zero points."""
    topk_weights: Tensor
    sorted_token_ids: Tensor
    expert_ids: Tensor
    num_tokens_post_padded: Tensor


def gemm_scalars(problem: Problem, config: Config, which: Which, target: Target) -> dict[str, Any]:
    """Return every argument of the kernel but its pointers and descriptors, as compile needs it."""
    shape, flags = gemm_shape(problem, which), gemm_flags(problem, config, which)
    is_up = which == "up"
    return {
        "N": shape.n,
        "K": shape.k,
        "stride_bn": weight_row(problem, which),
        **_scale_strides(shape.n, shape.k, flags.scales, (flags.group_n, flags.group_k)),
        "EM": padded_slots(problem, config.block_size_m),
        "num_valid_tokens": problem.tokens * problem.top_k,
        "top_k": problem.top_k if is_up else 1,
        "group_size_m": config.group_size_m,
        "mul_routed_weight": 0 if is_up else 1,
        "BLOCK_SIZE_M": config.block_size_m,
        "BLOCK_SIZE_N": config.block_size_n,
        "BLOCK_SIZE_K": config.block_size_k,
        "EVEN_K": flags.even_k,
        "SCALES": int(flags.scales),
        "GROUP_N": flags.group_n,
        "GROUP_K": flags.group_k,
        "WEIGHT_ONLY": flags.weight_only,
        "PACKED": flags.packed,
        "ZERO_POINTS": flags.zero_points,
        "SWAP_AB": swaps_operands(problem, config, target),
        "TMA_A": flags.tma_a,
        "TMA_B": flags.tma_b,
    }


def gemm_descriptors(
    a: Tensor | MockTensor, b: Tensor | MockTensor, problem: Problem, config: Config, which: Which
) -> dict[str, TensorDescriptor | None]:
    """Return the kernel's descriptor arguments over A [rows, K] and B [E, N, K]."""
    flags, shape = gemm_flags(problem, config, which), gemm_shape(problem, which)
    n, k = shape.n, shape.k
    box_a = [config.block_size_m, config.block_size_k]
    box_b = [1, config.block_size_n, config.block_size_k]
    return {
        "a_desc": TensorDescriptor(a, [a.shape[0], k], [k, 1], box_a) if flags.tma_a else None,
        "b_desc": TensorDescriptor(b, [problem.experts, n, k], [n * k, k, 1], box_b)
        if flags.tma_b
        else None,
    }


def launch_gemm(
    operands: GemmOperands, problem: Problem, config: Config, which: Which, target: Target
) -> None:
    """Launch one of the two GEMMs on the current stream; allocate and wait for nothing.

    A down config with USE_TMA reads rows of A that are positions of the alignment, not slots.
    """
    scalars = gemm_scalars(problem, config, which, target)
    blocks_m = scalars["EM"] // config.block_size_m
    blocks_n = -(-scalars["N"] // config.block_size_n)
    moe_gemm_kernel[(blocks_m * blocks_n,)](
        operands.a,
        operands.b,
        operands.c,
        operands.a_scale,
        operands.b_scale,
        operands.b_zero,
        operands.topk_weights,
        operands.sorted_token_ids,
        operands.expert_ids,
        operands.num_tokens_post_padded,
        **gemm_descriptors(operands.a, operands.b, problem, config, which),
        **scalars,
        **launch_options(config),
    )


def _scale_strides(n: int, k: int, scales: Scales, group: tuple[int, int]) -> dict[str, int]:
    """Elements from row to row of a_scale, and from expert to expert, column to column of b_scale.

    For BLOCK, a "column" of b_scale is a block of group_n columns.
    """
    if scales is Scales.TENSOR:
        strides = (0, 1, 0)
    elif scales is Scales.CHANNEL:
        strides = (1, n, 1)
    elif scales is Scales.NONE:
        strides = (0, 0, 0)
    else:
        steps = -(-k // group[1])
        columns = -(-n // group[0]) if scales is Scales.BLOCK else n
        strides = (steps, columns * steps, steps)
    return dict(zip(("stride_asm", "stride_bse", "stride_bsn"), strides, strict=True))
