"""An engine's GEMM, as far as its launch goes: a jitted kernel that takes the three tile sizes."""

from __future__ import annotations

from typing import Any

import torch
import triton.language as tl
from triton.runtime.jit import JITFunction
from triton.tools.tensor_descriptor import TensorDescriptor


def tiled_kernel(
    a_ptr,
    a_desc,
    c_ptr,
    n,
    BLOCK_SIZE_M: tl.constexpr,
    BLOCK_SIZE_N: tl.constexpr,
    BLOCK_SIZE_K: tl.constexpr,
    GROUP_SIZE_M: tl.constexpr,
    compute_type: tl.constexpr,
    even: tl.constexpr,
):
    rows, columns = tl.arange(0, BLOCK_SIZE_M), tl.arange(0, BLOCK_SIZE_K)
    if a_desc is not None:
        a = a_desc.load([0, 0])
    else:
        a = tl.load(a_ptr + rows[:, None] * n + columns[None, :])
    c = tl.dot(a, tl.trans(a)) * GROUP_SIZE_M
    if not even:
        c += BLOCK_SIZE_N
    tl.store(c_ptr + rows[:, None] * n + rows[None, :], c.to(compute_type))


tiled_kernel = JITFunction(tiled_kernel)  # also where tests have set TRITON_INTERPRET


def layer(config: dict[str, int], calls: list[str], down: dict[str, Any] | None = None) -> None:
    """Launch as an engine does: something small, the up GEMM, the down GEMM."""
    a = torch.empty((64, 64), dtype=torch.bfloat16)
    c = torch.empty((64, 64), dtype=torch.bfloat16)
    calls.append("small")
    for even, given in ((True, config), (False, down or config)):
        keys, a_desc = dict(given), None
        if keys.pop("USE_TMA", False):
            tile = [keys["BLOCK_SIZE_M"], keys["BLOCK_SIZE_K"]]
            a_desc = TensorDescriptor(a, a.shape, a.stride(), tile)
        tiled_kernel[(4,)](a, a_desc, c, 64, compute_type=tl.bfloat16, even=even, **keys)
