"""The grouped GEMM of an MoE layer: the engines' tile structure, so that times carry over.

Pipeline of one layer::

    topk_ids ─ align ─► sorted_token_ids, expert_ids ─────────┐ (the same for both GEMMs)
    x [M, H] ─► moe_gemm (up, w1) ─► activation ─► moe_gemm (down, w2) ─► sum ─► y [M, H]

Pointers (R = M * top_k slots; EM = bound of R padded per expert; scales are float32):

    a_ptr                       [M, K] up, [R, K] down        fp32 fp16 bf16 fp8 int8
    b_ptr                       [E, N, K] ([E, N, K/2] int4)  as A, or int8, or uint8
    c_ptr                       [R, N], row = slot            fp32 fp16 bf16
    a_scale_ptr                 [1] | [rows] | [rows, ceil(K / group_k)]
    b_scale_ptr                 [E] | [E, N] | [E, ceil(N / group_n), ceil(K / group_k)]
    b_zero_ptr                  None, or [E, N, ceil(K / group_k)] int8,
                                int4: [E, ceil(N / 2), ceil(K / group_k)] uint8, even N low
    topk_weights_ptr            [R]            float32, read where mul_routed_weight is not 0
    sorted_token_ids_ptr        [EM]           int32 slots by expert; padding is >= R
    expert_ids_ptr              [EM / BLOCK_SIZE_M]  int32, -1: nothing to do
    num_tokens_post_padded_ptr  [1]            int32, how much of EM is in use

Tensor descriptors, None where loads go through pointers (USE_TMA):

    b_desc                      [E, N, K], box [1, BLOCK_SIZE_N, BLOCK_SIZE_K]
    a_desc (down alone)         [EM, K],   box [BLOCK_SIZE_M, BLOCK_SIZE_K]

A descriptor cannot gather rows, so under a_desc A lies in the order of sorted_token_ids, padding
included: the activation before it stores there.

Unlike the engines, GROUP_SIZE_M, top_k, the token counts and mul_routed_weight are runtime scalars:
one binary serves up and down, all batch sizes and all GROUP_SIZE_M. What the K loop keeps in
registers is close to theirs: how many blocks an SM holds depends on it.
"""

# A kernel takes its pointers and sizes as plain positional arguments without types.
# mypy: disable-error-code="no-untyped-def, untyped-decorator"
# ruff: noqa: PLR0912, PLR0915, PLR0917

from __future__ import annotations

import triton
import triton.language as tl

from autotune.spec.binary import Scales

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
    b_zero_ptr,
    topk_weights_ptr,
    sorted_token_ids_ptr,
    expert_ids_ptr,
    num_tokens_post_padded_ptr,
    a_desc,
    b_desc,
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
    ZERO_POINTS: tl.constexpr,
    SWAP_AB: tl.constexpr,
    TMA_A: tl.constexpr,
    TMA_B: tl.constexpr,
):
    """Grid: (cdiv(EM, BLOCK_SIZE_M) * cdiv(N, BLOCK_SIZE_N),). One C tile per program.

    Row i of a tile is slot ``sorted_token_ids[pid_m * BLOCK_SIZE_M + i]``; its A row is
    slot // top_k (top_k is 1 for down), or the position itself under TMA_A. Accumulates in
    fp32; under SWAP_AB the transposed tile, so that the few rows meet the dot's narrow side.
    """
    pid_m, pid_n = _tile_of_program(
        tl.program_id(0), EM, N, group_size_m, BLOCK_SIZE_M, BLOCK_SIZE_N
    )
    if pid_m * BLOCK_SIZE_M >= tl.load(num_tokens_post_padded_ptr):
        return
    # Both loads are under way before the branch waits for one of them, as in the engines' kernels.
    positions = pid_m * BLOCK_SIZE_M + tl.arange(0, BLOCK_SIZE_M)
    slots = tl.load(sorted_token_ids_ptr + positions)
    expert = tl.load(expert_ids_ptr + pid_m).to(tl.int64)
    if expert < 0:
        return

    is_slot = slots < num_valid_tokens
    # Divided before it is widened: 64 bits by a number that is no constant take a subroutine.
    rows = (positions if TMA_A else slots // top_k).to(tl.int64)
    # Columns past N wrap around: they read valid memory and are not stored.
    columns = (pid_n * BLOCK_SIZE_N + tl.arange(0, BLOCK_SIZE_N).to(tl.int64)) % N
    ks = tl.arange(0, BLOCK_SIZE_K)

    a_ptrs = a_ptr + rows[:, None] * K + ks[None, :]
    k_in_row = ks // 2 if PACKED else ks
    b_ptrs = b_ptr + expert * N * stride_bn + columns[None, :] * stride_bn + k_in_row[:, None]
    b_scale_ptr += expert * stride_bse
    if ZERO_POINTS:
        zero_columns = (N + 1) // 2 if PACKED else N
        b_zero_ptr += expert * zero_columns * stride_bsn
    if SCALES == BLOCK:
        a_scale_ptrs = a_scale_ptr + rows * stride_asm
        if BLOCK_SIZE_N > GROUP_N:
            b_scale_ptrs = b_scale_ptr + (columns // GROUP_N) * stride_bsn
        else:
            b_scale_ptrs = b_scale_ptr + (pid_n * BLOCK_SIZE_N // GROUP_N) * stride_bsn

    compute_type = c_ptr.dtype.element_ty
    if SWAP_AB:
        accumulator = tl.zeros((BLOCK_SIZE_N, BLOCK_SIZE_M), dtype=tl.float32)
    else:
        accumulator = tl.zeros((BLOCK_SIZE_M, BLOCK_SIZE_N), dtype=tl.float32)
    for start in range(0, K, BLOCK_SIZE_K):
        in_k = ks < K - start
        if TMA_A:
            a = a_desc.load([pid_m * BLOCK_SIZE_M, start])
        elif EVEN_K:
            a = tl.load(a_ptrs, mask=is_slot[:, None], other=0.0)
        else:
            a = tl.load(a_ptrs, mask=is_slot[:, None] & in_k[None, :], other=0.0)
        if TMA_B:
            b = b_desc.load([expert.to(tl.int32), pid_n * BLOCK_SIZE_N, start])
            b = b.reshape(BLOCK_SIZE_N, BLOCK_SIZE_K).T
        elif EVEN_K:
            b = tl.load(b_ptrs)
        else:
            b = tl.load(b_ptrs, mask=in_k[:, None], other=0.0)
        if PACKED:
            b = ((b >> ((ks % 2) * 4)[:, None]) & 0xF).to(tl.int8)
            if not ZERO_POINTS:
                b -= 8

        if SCALES == GROUP:
            groups = (start + ks) // GROUP_K
            scale_ptrs = b_scale_ptr + columns[None, :] * stride_bsn + groups[:, None]
            if EVEN_K:
                b_scale = tl.load(scale_ptrs)
            else:
                b_scale = tl.load(scale_ptrs, mask=in_k[:, None], other=0.0)
            b = b.to(tl.float32)
            if ZERO_POINTS:
                zero_rows = columns // 2 if PACKED else columns
                zero_ptrs = b_zero_ptr + zero_rows[None, :] * stride_bsn + groups[:, None]
                if EVEN_K:
                    zero = tl.load(zero_ptrs)
                else:
                    zero = tl.load(zero_ptrs, mask=in_k[:, None], other=0)
                if PACKED:
                    zero = (zero >> ((columns % 2) * 4)[None, :]) & 0xF
                b -= zero.to(tl.float32)
            b = (b * b_scale).to(compute_type)
            accumulator = tl.dot(a, b, acc=accumulator)
        elif SCALES == BLOCK:
            a_scale = tl.load(a_scale_ptrs + start // GROUP_K, mask=is_slot, other=0.0)
            b_scale = tl.load(b_scale_ptrs + start // GROUP_K)
            if SWAP_AB:
                if BLOCK_SIZE_N > GROUP_N:
                    accumulator += tl.dot(b.T, a.T) * b_scale[:, None] * a_scale[None, :]
                else:
                    accumulator += tl.dot(b.T, a.T) * (a_scale * b_scale)[None, :]
            elif BLOCK_SIZE_N > GROUP_N:
                accumulator += tl.dot(a, b) * a_scale[:, None] * b_scale[None, :]
            else:
                accumulator += tl.dot(a, b) * (a_scale * b_scale)[:, None]
        elif WEIGHT_ONLY:
            accumulator = tl.dot(a, b.to(compute_type), acc=accumulator)
        elif a.dtype == tl.int8:
            accumulator += tl.dot(a, b)
        elif SWAP_AB:
            accumulator = tl.dot(b.T, a.T, acc=accumulator)
        else:
            accumulator = tl.dot(a, b, acc=accumulator)
        a_ptrs += BLOCK_SIZE_K
        b_ptrs += BLOCK_SIZE_K // 2 if PACKED else BLOCK_SIZE_K

    if SWAP_AB:
        accumulator = accumulator.T
    if SCALES == TENSOR:
        accumulator *= tl.load(a_scale_ptr) * tl.load(b_scale_ptr)
    elif SCALES == CHANNEL:
        accumulator *= tl.load(b_scale_ptr + columns * stride_bsn)[None, :]
        if not WEIGHT_ONLY:
            accumulator *= tl.load(a_scale_ptr + rows * stride_asm, mask=is_slot, other=0.0)[
                :, None
            ]

    slots = slots.to(tl.int64)
    if mul_routed_weight != 0:
        accumulator *= tl.load(topk_weights_ptr + slots, mask=is_slot, other=0.0)[:, None]

    out_columns = pid_n * BLOCK_SIZE_N + tl.arange(0, BLOCK_SIZE_N)
    c_ptrs = c_ptr + slots[:, None] * N + out_columns[None, :]
    is_inside = is_slot[:, None] & (out_columns < N)[None, :]
    tl.store(c_ptrs, accumulator.to(compute_type), mask=is_inside)
