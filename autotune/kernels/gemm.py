"""The grouped GEMM of an MoE layer: the engines' tile structure, so that times carry over.

Pipeline of one layer::

    topk_ids ─ align ─► sorted_token_ids, expert_ids ─────────┐ (the same for both GEMMs)
    x [M, H] ─► moe_gemm (up, w1) ─► silu_and_mul ─► moe_gemm (down, w2) ─► sum ─► y [M, H]

Pointers (R = M * top_k slots; EM = bound of R padded per expert; scales are float32):

    a_ptr                       [M, K] up, [R, K] down        fp32 fp16 bf16 fp8 int8
    b_ptr                       [E, N, K] ([E, N, K/2] int4)  as A, or int8, or uint8
    c_ptr                       [R, N], row = slot            fp32 fp16 bf16
    a_scale_ptr                 [1] | [rows] | [rows, ceil(K / group_k)]
    b_scale_ptr                 [E] | [E, N] | [E, ceil(N / group_n), ceil(K / group_k)]
    topk_weights_ptr            [R]            float32, read where mul_routed_weight is not 0
    sorted_token_ids_ptr        [EM]           int32 slots by expert; padding is >= R
    expert_ids_ptr              [EM / BLOCK_SIZE_M]  int32, -1: nothing to do
    num_tokens_post_padded_ptr  [1]            int32, how much of EM is in use

Unlike the engines, GROUP_SIZE_M, top_k, the token counts and mul_routed_weight are runtime
scalars: one binary serves up and down, all batch sizes and all GROUP_SIZE_M.
"""

# A kernel takes its pointers and sizes as plain positional arguments without types.
# mypy: disable-error-code="no-untyped-def, untyped-decorator"
# ruff: noqa: PLR0912, PLR0915, PLR0917

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import triton
import triton.language as tl

from autotune.kernels.binary import (
    Scales,
    Which,
    gemm_flags,
    gemm_shape,
    launch_options,
    weight_row,
)
from autotune.kernels.config import Config
from autotune.kernels.problem import Problem

if TYPE_CHECKING:
    from torch import Tensor

TENSOR = tl.constexpr(int(Scales.TENSOR))
CHANNEL = tl.constexpr(int(Scales.CHANNEL))
BLOCK = tl.constexpr(int(Scales.BLOCK))
GROUP = tl.constexpr(int(Scales.GROUP))

RUNTIME_SCALARS = (
    "stride_asm",
    "stride_bse",
    "stride_bsn",
    "EM",
    "num_valid_tokens",
    "top_k",
    "group_size_m",
    "mul_routed_weight",
)
"""Not specialised: they change with batch size, GEMM and GROUP_SIZE_M, the binary must not."""


@triton.jit
def _tile_of_program(
    pid, EM, N, group_size_m, BLOCK_SIZE_M: tl.constexpr, BLOCK_SIZE_N: tl.constexpr
):
    """(pid_m, pid_n) in the grouped order that lets group_size_m row blocks share B in L2."""
    num_pid_m = tl.cdiv(EM, BLOCK_SIZE_M)
    num_pid_n = tl.cdiv(N, BLOCK_SIZE_N)
    programs_in_group = group_size_m * num_pid_n
    first_pid_m = (pid // programs_in_group) * group_size_m
    rows = tl.minimum(num_pid_m - first_pid_m, group_size_m)
    pid_m = first_pid_m + (pid % programs_in_group) % rows
    pid_n = (pid % programs_in_group) // rows
    return pid_m, pid_n


@triton.jit(do_not_specialize=RUNTIME_SCALARS)
def moe_gemm_kernel(
    a_ptr,
    b_ptr,
    c_ptr,
    a_scale_ptr,
    b_scale_ptr,
    topk_weights_ptr,
    sorted_token_ids_ptr,
    expert_ids_ptr,
    num_tokens_post_padded_ptr,
    N,
    K,
    stride_bn,
    stride_asm,
    stride_bse,
    stride_bsn,
    EM,
    num_valid_tokens,
    top_k,
    group_size_m,
    mul_routed_weight,
    BLOCK_SIZE_M: tl.constexpr,
    BLOCK_SIZE_N: tl.constexpr,
    BLOCK_SIZE_K: tl.constexpr,
    EVEN_K: tl.constexpr,
    SCALES: tl.constexpr,
    GROUP_N: tl.constexpr,
    GROUP_K: tl.constexpr,
    WEIGHT_ONLY: tl.constexpr,
    PACKED: tl.constexpr,
):
    """Grid: (cdiv(EM, BLOCK_SIZE_M) * cdiv(N, BLOCK_SIZE_N),). One C tile per program.

    Row i of a tile is slot ``sorted_token_ids[pid_m * BLOCK_SIZE_M + i]``; its A row is
    slot // top_k (top_k is 1 for down). Accumulates in fp32.
    """
    pid_m, pid_n = _tile_of_program(
        tl.program_id(0), EM, N, group_size_m, BLOCK_SIZE_M, BLOCK_SIZE_N
    )
    if pid_m * BLOCK_SIZE_M >= tl.load(num_tokens_post_padded_ptr):
        return
    expert = tl.load(expert_ids_ptr + pid_m).to(tl.int64)
    if expert < 0:
        return

    slots = tl.load(sorted_token_ids_ptr + pid_m * BLOCK_SIZE_M + tl.arange(0, BLOCK_SIZE_M))
    slots = slots.to(tl.int64)
    is_slot = slots < num_valid_tokens
    rows = slots // top_k
    # Columns past N wrap around: they read valid memory and are not stored.
    columns = (pid_n * BLOCK_SIZE_N + tl.arange(0, BLOCK_SIZE_N).to(tl.int64)) % N
    ks = tl.arange(0, BLOCK_SIZE_K)

    a_ptrs = a_ptr + rows[:, None] * K + ks[None, :]
    k_in_row = ks // 2 if PACKED else ks
    b_ptrs = b_ptr + expert * N * stride_bn + columns[None, :] * stride_bn + k_in_row[:, None]
    b_scale_ptr += expert * stride_bse
    if SCALES == BLOCK:
        a_scale_ptrs = a_scale_ptr + rows * stride_asm
        if BLOCK_SIZE_N > GROUP_N:
            b_scale_ptrs = b_scale_ptr + (columns // GROUP_N) * stride_bsn
        else:
            b_scale_ptrs = b_scale_ptr + (pid_n * BLOCK_SIZE_N // GROUP_N) * stride_bsn

    compute_type = c_ptr.dtype.element_ty
    accumulator = tl.zeros((BLOCK_SIZE_M, BLOCK_SIZE_N), dtype=tl.float32)
    for step in range(0, tl.cdiv(K, BLOCK_SIZE_K)):
        start = step * BLOCK_SIZE_K
        if EVEN_K:
            a = tl.load(a_ptrs, mask=is_slot[:, None], other=0.0)
            b = tl.load(b_ptrs)
        else:
            in_k = ks < K - start
            a = tl.load(a_ptrs, mask=is_slot[:, None] & in_k[None, :], other=0.0)
            b = tl.load(b_ptrs, mask=in_k[:, None], other=0.0)
        if PACKED:
            b = ((b >> ((ks % 2) * 4)[:, None]) & 0xF).to(tl.int8) - 8

        if SCALES == GROUP:
            groups = (start + ks) // GROUP_K
            scale_ptrs = b_scale_ptr + columns[None, :] * stride_bsn + groups[:, None]
            if EVEN_K:
                b_scale = tl.load(scale_ptrs)
            else:
                b_scale = tl.load(scale_ptrs, mask=in_k[:, None], other=0.0)
            b = (b.to(tl.float32) * b_scale).to(compute_type)
            accumulator = tl.dot(a, b, acc=accumulator)
        elif SCALES == BLOCK:
            a_scale = tl.load(a_scale_ptrs + start // GROUP_K, mask=is_slot, other=0.0)
            b_scale = tl.load(b_scale_ptrs + start // GROUP_K)
            if BLOCK_SIZE_N > GROUP_N:
                accumulator += tl.dot(a, b) * a_scale[:, None] * b_scale[None, :]
            else:
                accumulator += tl.dot(a, b) * (a_scale * b_scale)[:, None]
        elif WEIGHT_ONLY:
            accumulator = tl.dot(a, b.to(compute_type), acc=accumulator)
        elif a.dtype == tl.int8:
            accumulator += tl.dot(a, b)
        else:
            accumulator = tl.dot(a, b, acc=accumulator)
        a_ptrs += BLOCK_SIZE_K
        b_ptrs += BLOCK_SIZE_K // 2 if PACKED else BLOCK_SIZE_K

    if SCALES == TENSOR:
        accumulator *= tl.load(a_scale_ptr) * tl.load(b_scale_ptr)
    elif SCALES == CHANNEL:
        accumulator *= tl.load(b_scale_ptr + columns * stride_bsn)[None, :]
        if not WEIGHT_ONLY:
            accumulator *= tl.load(a_scale_ptr + rows * stride_asm, mask=is_slot, other=0.0)[
                :, None
            ]

    is_weighted = slots < num_valid_tokens * mul_routed_weight  # none where it is 0
    weights = tl.load(topk_weights_ptr + slots, mask=is_weighted, other=1.0)
    accumulator *= weights[:, None]

    out_columns = pid_n * BLOCK_SIZE_N + tl.arange(0, BLOCK_SIZE_N)
    c_ptrs = c_ptr + slots[:, None] * N + out_columns[None, :]
    is_inside = is_slot[:, None] & (out_columns < N)[None, :]
    tl.store(c_ptrs, accumulator.to(compute_type), mask=is_inside)


@dataclass(frozen=True, slots=True)
class GemmOperands:
    """The pointers of one launch, in the shapes of this file's map."""

    a: Tensor
    b: Tensor
    c: Tensor
    a_scale: Tensor
    b_scale: Tensor
    topk_weights: Tensor
    sorted_token_ids: Tensor
    expert_ids: Tensor
    num_tokens_post_padded: Tensor


def padded_slots(problem: Problem, block_size_m: int) -> int:
    """EM: the most slots that alignment can need, a multiple of ``block_size_m``.

    Each expert that gets a slot is padded by at most ``block_size_m - 1``.
    """
    slots = problem.tokens * problem.top_k
    padded = slots + min(slots, problem.experts + 1) * (block_size_m - 1)
    return -(-padded // block_size_m) * block_size_m


def gemm_scalars(problem: Problem, config: Config, which: Which) -> dict[str, Any]:
    """Every argument of the kernel but its pointers: the launch and compile-ahead share it."""
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
    }


def launch_gemm(operands: GemmOperands, problem: Problem, config: Config, which: Which) -> None:
    """Launches one of the two GEMMs on the current stream; allocates and waits for nothing."""
    scalars = gemm_scalars(problem, config, which)
    blocks_m = scalars["EM"] // config.block_size_m
    blocks_n = -(-scalars["N"] // config.block_size_n)
    moe_gemm_kernel[(blocks_m * blocks_n,)](
        operands.a,
        operands.b,
        operands.c,
        operands.a_scale,
        operands.b_scale,
        operands.topk_weights,
        operands.sorted_token_ids,
        operands.expert_ids,
        operands.num_tokens_post_padded,
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
