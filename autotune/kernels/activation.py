"""SiLU-and-multiply between the two GEMMs, and the quantisation that the down GEMM needs.

Pipeline: up output → silu(gate) * up, rounded to C's type → where activations are quantised,
a scale per group of the row (or the given one for all) and values of A's type.

Pointers (R = M * top_k slots):

    x_ptr         [R, 2N]            fp32 fp16 bf16; gate in the first N columns, as the engines
    y_ptr         [R, N]             as x, or fp8 or int8
    scale_ptr     [R, ceil(N / group)] float32, written; [1], read, where one scale serves all
    topk_ids_ptr  [R]                int32; rows of dropped slots (-1) are neither read nor written
"""

# A kernel takes its pointers and sizes as plain positional arguments without types.
# mypy: disable-error-code="no-untyped-def, untyped-decorator"
# ruff: noqa: PLR0917

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import triton
import triton.language as tl

if TYPE_CHECKING:
    from torch import Tensor

PLAIN_GROUP = 1024
"""Columns of a program where no scale sets the width."""


@triton.jit(do_not_specialize=("group", "largest"))
def silu_and_mul_kernel(
    x_ptr,
    y_ptr,
    scale_ptr,
    topk_ids_ptr,
    N,
    group,
    largest,
    BLOCK: tl.constexpr,
    QUANTIZES: tl.constexpr,
    GIVEN_SCALE: tl.constexpr,
):
    """Grid: (R, ceil(N / group)). Program (r, g): columns g * group … of row r."""
    row = tl.program_id(0).to(tl.int64)
    if tl.load(topk_ids_ptr + row) < 0:
        return
    lanes = tl.arange(0, BLOCK)
    columns = tl.program_id(1) * group + lanes
    is_inside = (lanes < group) & (columns < N)
    gate = tl.load(x_ptr + row * 2 * N + columns, mask=is_inside, other=0.0).to(tl.float32)
    up = tl.load(x_ptr + row * 2 * N + N + columns, mask=is_inside, other=0.0).to(tl.float32)
    y = (gate * tl.sigmoid(gate) * up).to(x_ptr.dtype.element_ty)
    if QUANTIZES:
        y = y.to(tl.float32)
        if GIVEN_SCALE:
            scale = tl.load(scale_ptr)
        else:
            scale = tl.maximum(tl.max(tl.abs(y), axis=0), 1e-12) / largest
            tl.store(scale_ptr + row * tl.num_programs(1) + tl.program_id(1), scale)
        y = tl.minimum(tl.maximum(y / scale, -largest), largest)
        if y_ptr.dtype.element_ty == tl.int8:
            y = tl.floor(y + 0.5)
    tl.store(y_ptr + row * N + columns, y.to(y_ptr.dtype.element_ty), mask=is_inside)


def silu_and_mul(x: Tensor, topk_ids: Tensor, out: Tensor) -> None:
    """x [R, 2N] → out [R, N] of the same type; allocates and waits for nothing."""
    rows, n = out.shape
    group = min(PLAIN_GROUP, triton.next_power_of_2(n))
    silu_and_mul_kernel[(rows, triton.cdiv(n, group))](
        x, out, x, topk_ids, n, group, 0.0, BLOCK=group, QUANTIZES=False, GIVEN_SCALE=False
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

    @property
    def is_scale_given(self) -> bool:
        return self.scale.dim() == 1


def silu_and_mul_quantized(x: Tensor, topk_ids: Tensor, out: Quantized) -> None:
    """x [R, 2N] → ``out.values``, and ``out.scale`` where it is not given.

    Allocates and waits for nothing.
    """
    rows, n = out.values.shape
    group = min(out.group, n)
    block = triton.next_power_of_2(group)
    silu_and_mul_kernel[(rows, triton.cdiv(n, group))](
        x,
        out.values,
        out.scale,
        topk_ids,
        n,
        group,
        out.largest,
        BLOCK=block,
        QUANTIZES=True,
        GIVEN_SCALE=out.is_scale_given,
        num_warps=max(1, min(8, block // 512)),
    )
