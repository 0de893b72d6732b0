"""The end of the layer: a token's expert outputs become its sum.

Pointers:

    x_ptr         [M, top_k, H]  fp32 fp16 bf16, already times the routing weight
    topk_ids_ptr  [M, top_k]     int32; slots of -1 were not computed and are skipped
    y_ptr         [M, H]         as x; zeros where all slots of a token are dropped
"""

# A kernel takes its pointers and sizes as plain positional arguments without types.
# mypy: disable-error-code="no-untyped-def, untyped-decorator"
# ruff: noqa: PLR0917

from __future__ import annotations

from typing import TYPE_CHECKING

import triton
import triton.language as tl

if TYPE_CHECKING:
    from torch import Tensor

COLUMNS = 1024
"""Columns of a program: 8 of each thread, one 16-byte load."""


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
    columns = min(COLUMNS, triton.next_power_of_2(hidden))
    grid = (tokens, triton.cdiv(hidden, columns))
    sum_slots_kernel[grid](x, topk_ids, out, top_k, hidden, COLUMNS=columns)
