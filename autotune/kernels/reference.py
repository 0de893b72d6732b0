"""The reference implementation of the layer: plain PyTorch in fp32, for tests and verification.

It rounds where the kernels store (C's type after each GEMM, A's type between them), so
what remains is the order of fp32 sums. Dropped slots hold zeros.

What is rounded how is read from SGLang 0.5.23 (``layers/moe/moe_runner/triton_utils/fused_moe.py``
and the kernels that it calls: S) and vLLM 0.33.0 (``layers/fused_moe/fused_moe.py``, ``utils.py``
and ``quantization/utils``: V; its compiled kernels are known by their Python twins). Both do,
if nothing is said:

    up             fp32 sums, scaled in fp32, stored in C's type
    activation     in fp32 from what was stored; the product is stored in C's type. V rounds
                   silu(gate) to C's type before it multiplies
    quantised A    from C's type, scales in float32, of which the largest of the tile takes the
                   last value: 448 or 127, not less than 1e-10 where the tile is (S has no such
                   floor per token, V a larger one, of fp8)
      fp8          rounded to nearest, within ±448; per tensor by the given scale, per token, per
                   block of K
      int8, token  rounded to nearest, halves away from zero
      int8, block  clamped, then cut toward zero by the conversion; V calls this for no layer
    weights        int8 of channels go into the dot as they are, and the sum is scaled; those of
                   groups along K less zero point, times scale, rounded to C's type before the dot
    down           as up, times the routing weight in fp32, then stored in C's type
    sum            in fp32, then stored in C's type, which the reference leaves out

Where they differ the reference does as S does, ``verify.TOLERANCE`` allows for the other.
"""

from __future__ import annotations

import torch
from torch import Tensor

from autotune.kernels.inputs import GemmWeights, MoeInputs
from autotune.kernels.quantize import (
    dequantize,
    largest,
    quantize,
    round_to,
    row_tile,
    truncates,
    unpack_int4,
    unpack_int4_rows,
    weight_tile,
)
from autotune.spec.binary import Scales, Which, gemm_shape, scales_of
from autotune.spec.problem import Dtype, Problem


def activation_reference(x: Tensor, *, gated: bool) -> Tensor:
    """x [R, 2N] → silu(first half) * second half, or x [R, N] → relu(x)^2; [R, N] fp32."""
    if not gated:
        return x.float().relu().square()
    gate, up = x.float().chunk(2, dim=-1)
    return torch.nn.functional.silu(gate) * up


def weight_of(problem: Problem, weights: GemmWeights, which: Which, expert: int) -> Tensor:
    """Return one expert's weights [n, k] as real values, fp32."""
    shape, kind = gemm_shape(problem, which), scales_of(problem)
    values = weights.values[expert]
    if kind is Scales.NONE:
        return values.float()
    zero = None if weights.zero is None else weights.zero[expert]
    if problem.dtype is Dtype.INT4_W4A16:
        values = unpack_int4(values)
        zero = None if zero is None else unpack_int4_rows(zero, shape.n)
    tile = weight_tile(problem, shape.n, shape.k)
    grid = [-(-size // edge) for size, edge in zip((shape.n, shape.k), tile, strict=True)]
    return dequantize(values, weights.scale[expert].reshape(grid), tile, zero)


def moe_reference(inputs: MoeInputs) -> Tensor:
    """Return the layer's output [M, H] fp32, for the routing that ``inputs`` holds now.

    Expert by expert, so that only one expert's weights are real-valued at a time.
    """
    problem = inputs.problem
    x = real_rows(inputs)
    out = torch.zeros((problem.tokens, problem.hidden), device=x.device)
    for expert in range(problem.experts):
        tokens, choice = torch.nonzero(inputs.topk_ids == expert, as_tuple=True)
        if len(tokens) == 0:
            continue
        w1 = as_dot_reads(inputs, inputs.weights.up, "up", expert)
        up = (x[tokens] @ w1.T).to(inputs.elements.c)
        rows = activation_reference(up, gated=problem.gated).to(inputs.elements.c)
        w2 = as_dot_reads(inputs, inputs.weights.down, "down", expert)
        down = as_down_reads(inputs, rows) @ w2.T
        weighted = down * inputs.topk_weights[tokens, choice][:, None]
        out.index_add_(0, tokens, weighted.to(inputs.elements.c).float())
    return out


def as_dot_reads(inputs: MoeInputs, weights: GemmWeights, which: Which, expert: int) -> Tensor:
    """Return one expert's weights [n, k] in fp32; those of groups along K rounded to C's type."""
    real = weight_of(inputs.problem, weights, which, expert)
    if scales_of(inputs.problem) is not Scales.GROUP:
        return real
    return real.to(inputs.elements.c).float()


def real_rows(inputs: MoeInputs) -> Tensor:
    """Return the up GEMM's A as real values [M, H]."""
    if not inputs.elements.quantizes_activations:
        return inputs.x.float()
    tile = row_tile(inputs.problem, *inputs.x.shape)
    groups = -(-inputs.x.shape[1] // tile[1])
    return dequantize(inputs.x, inputs.x_scale.reshape(-1, groups), tile)


def real_x(inputs: MoeInputs) -> Tensor:
    """The layer's input [M, H] in C's type, as it was before it was quantised."""
    return real_rows(inputs).to(inputs.elements.c).contiguous()


def as_down_reads(inputs: MoeInputs, rows: Tensor) -> Tensor:
    """Return the activation's output in fp32 as the down GEMM reads it: quantised where A is."""
    problem, elements = inputs.problem, inputs.elements
    if not elements.quantizes_activations:
        return rows.float()
    limit = largest(elements.a, problem.dtype)
    if scales_of(problem) is Scales.TENSOR:
        scale = inputs.weights.down_row_scale
        return round_to(rows.float() / scale, elements.a, limit).float() * scale
    tile = row_tile(problem, *rows.shape)
    values, scale = quantize(rows, tile, elements.a, limit, cuts=truncates(problem))
    return dequantize(values, scale, tile)
