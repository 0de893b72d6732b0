"""The kernels after each GEMM: the activation, which quantises where the down GEMM needs it, and
the sum of a token's expert outputs.

Pipeline: up output → silu(gate) * up, or relu(up)^2 where experts have no gate, rounded to C's
type → where activations are quantised, a scale per group of the row (or the given one for all) and
values of A's type. Down output → sum.

Pointers (R = M * top_k slots; P = R, or EM, the padded rows of an alignment, where it SORTS):

    x_ptr         [R, 2N]            fp32 fp16 bf16; gate in the first N columns, as the engines.
                                     [R, N] where it is not GATED
    y_ptr         [P, N]             as x, or fp8 or int8
    scale_ptr     [P, ceil(N / group)] float32, written; [1], read, where one scale serves all
    ids_ptr       [R]                int32 topk_ids: rows of dropped slots (-1) are neither read
                                     nor written. SORTS: [EM] sorted_token_ids, which row of x
                                     goes to each of y; those past the end or of R and more are
                                     left alone
    used_ptr      [1]                int32 num_tokens_post_padded, read where it SORTS

Pointers of the sum:

    x_ptr         [M, top_k, H]      fp32 fp16 bf16, already times the routing weight
    topk_ids_ptr  [M, top_k]         int32; slots of -1 were not computed and are skipped
    y_ptr         [M, H]             as x; zeros where all slots of a token are dropped
"""

# A kernel takes its pointers and sizes as plain positional arguments without types.
# mypy: disable-error-code="no-untyped-def, untyped-decorator"
# ruff: noqa: PLR0917

from __future__ import annotations

from dataclasses import dataclass

import triton
import triton.language as tl
from torch import Tensor

from autotune.kernels import quantize

SMALLEST = tl.constexpr(quantize.SMALLEST)
PLAIN_GROUP = 1024
"""Columns of a program where no scale sets the width."""
SUM_COLUMNS = 1024
"""Columns of a program that sums: 8 of each thread, one 16-byte load."""


@triton.jit(do_not_specialize=("group", "largest", "num_slots"))
def activation_kernel(
    x_ptr,
    y_ptr,
    scale_ptr,
    ids_ptr,
    used_ptr,
    num_slots,
    N,
    group,
    largest,
    BLOCK: tl.constexpr,
    GATED: tl.constexpr,
    QUANTIZES: tl.constexpr,
    GIVEN_SCALE: tl.constexpr,
    SORTS: tl.constexpr,
    CUTS: tl.constexpr,
):
    """Grid: (P, ceil(N / group)). Program (r, g): columns g * group … of row r of y."""
    row = tl.program_id(0).to(tl.int64)
    source = row
    if SORTS:
        if row >= tl.load(used_ptr):
            return
        source = tl.load(ids_ptr + row).to(tl.int64)
        if source >= num_slots:
            return
    elif tl.load(ids_ptr + row) < 0:
        return
    lanes = tl.arange(0, BLOCK)
    columns = tl.program_id(1) * group + lanes
    is_inside = (lanes < group) & (columns < N)
    if GATED:
        x_ptrs = x_ptr + source * 2 * N + columns
        gate = tl.load(x_ptrs, mask=is_inside, other=0.0).to(tl.float32)
        up = tl.load(x_ptrs + N, mask=is_inside, other=0.0).to(tl.float32)
        y = gate * tl.sigmoid(gate) * up
    else:
        up = tl.load(x_ptr + source * N + columns, mask=is_inside, other=0.0).to(tl.float32)
        y = tl.maximum(up, 0.0) * up  # not its square: of NaN, that would be 0
    y = y.to(x_ptr.dtype.element_ty)
    if QUANTIZES:
        y = y.to(tl.float32)
        if GIVEN_SCALE:
            scale = tl.load(scale_ptr)
        else:
            scale = tl.maximum(tl.max(tl.abs(y), axis=0), SMALLEST) / largest
            tl.store(scale_ptr + row * tl.num_programs(1) + tl.program_id(1), scale)
        y = tl.minimum(tl.maximum(y / scale, -largest), largest)
        if y_ptr.dtype.element_ty == tl.int8 and not CUTS:
            y += tl.where(y < 0, -0.5, 0.5)  # the conversion cuts toward zero
    tl.store(y_ptr + row * N + columns, y.to(y_ptr.dtype.element_ty), mask=is_inside)


@dataclass(frozen=True, slots=True)
class SortedRows:
    """Rows in the order of an alignment, padding included."""

    sorted_token_ids: Tensor
    num_tokens_post_padded: Tensor
    count: int
    """Rows that there may be at most: the launch covers so many."""


def activate(x: Tensor, topk_ids: Tensor, out: Tensor, order: SortedRows | None = None) -> None:
    """x [R, 2N], or [R, N] without a gate → out [R, N] of the same type; allocates and waits for
    nothing.

    Rows are the slots of ``topk_ids``; with ``order`` those of out are [EM, N] and lie in it.
    """
    n = out.shape[1]
    group = min(PLAIN_GROUP, triton.next_power_of_2(n))
    activation_kernel[(_count(topk_ids, order), triton.cdiv(n, group))](
        x,
        out,
        x,
        *_ids(topk_ids, order),
        n,
        group,
        0.0,
        BLOCK=group,
        GATED=_is_gated(x, n),
        QUANTIZES=False,
        GIVEN_SCALE=False,
        SORTS=order is not None,
        CUTS=False,
    )


@dataclass(frozen=True, slots=True)
class Quantized:
    """Values and scales of quantised rows, and what ties them together."""

    values: Tensor
    """[R, N] fp8 or int8."""
    scale: Tensor
    """[1], given for all, or [R, ceil(N / group)], one per group of a row."""
    group: int
    """Columns that share a scale; N or more: the whole row."""
    largest: float
    """The largest magnitude of a value."""
    cuts: bool = False
    """True if int values are cut, not rounded: see ``quantize.truncates``."""

    @property
    def is_scale_given(self) -> bool:
        return self.scale.dim() == 1


def activate_quantized(
    x: Tensor, topk_ids: Tensor, out: Quantized, order: SortedRows | None = None
) -> None:
    """x → ``out.values``, and ``out.scale`` where it is not given. x and rows are as in
    ``activate``.

    Allocates and waits for nothing.
    """
    n = out.values.shape[1]
    group = min(out.group, n)
    block = triton.next_power_of_2(group)
    activation_kernel[(_count(topk_ids, order), triton.cdiv(n, group))](
        x,
        out.values,
        out.scale,
        *_ids(topk_ids, order),
        n,
        group,
        out.largest,
        BLOCK=block,
        GATED=_is_gated(x, n),
        QUANTIZES=True,
        GIVEN_SCALE=out.is_scale_given,
        SORTS=order is not None,
        CUTS=out.cuts,
        num_warps=max(1, min(8, block // 512)),
    )


def _is_gated(x: Tensor, n: int) -> bool:
    return x.shape[1] == 2 * n


def _count(topk_ids: Tensor, order: SortedRows | None) -> int:
    return order.count if order else topk_ids.numel()


def _ids(topk_ids: Tensor, order: SortedRows | None) -> tuple[Tensor, Tensor, int]:
    """ids_ptr, used_ptr and num_slots."""
    if order is None:
        return topk_ids, topk_ids, topk_ids.numel()
    return order.sorted_token_ids, order.num_tokens_post_padded, topk_ids.numel()


@triton.jit(do_not_specialize=("top_k",))
def sum_slots_kernel(x_ptr, topk_ids_ptr, y_ptr, top_k, H, COLUMNS: tl.constexpr):
    """Grid: (M, ceil(H / COLUMNS)). Adds in fp32, in slot order."""
    token = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    total = tl.zeros((COLUMNS,), dtype=tl.float32)
    for k in range(0, top_k):
        slot = token * top_k + k
        width = tl.where(tl.load(topk_ids_ptr + slot) >= 0, H, 0)
        x = tl.load(x_ptr + slot * H + columns, mask=columns < width, other=0.0)
        total += x.to(tl.float32)
    tl.store(y_ptr + token * H + columns, total.to(y_ptr.dtype.element_ty), mask=columns < H)


def sum_slots(x: Tensor, topk_ids: Tensor, out: Tensor) -> None:
    """x [M, top_k, H], topk_ids [M, top_k] → out [M, H]; allocates and waits for nothing."""
    tokens, top_k, hidden = x.shape
    columns = min(SUM_COLUMNS, triton.next_power_of_2(hidden))
    grid = (tokens, triton.cdiv(hidden, columns))
    sum_slots_kernel[grid](x, topk_ids, out, top_k, hidden, COLUMNS=columns)
