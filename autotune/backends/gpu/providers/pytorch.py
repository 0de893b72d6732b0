"""PyTorch's own ways to compute the layer: as providers, then the arithmetic.

In the arithmetic x [M, H] and weights are real values of one type; ids [M, top_k] int32 with -1 for
slots of other ranks; weights [M, top_k] float32. All return [M, H] of x's type.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from autotune.backends.gpu.providers.base import Provider, ProviderLayer
from autotune.kernels.inputs import GemmWeights, MoeInputs
from autotune.kernels.quantize import unpack_int4
from autotune.kernels.reference import as_down_reads, real_x, weight_of
from autotune.spec.binary import Scales, gemm_shape, scales_of
from autotune.spec.config import AnyConfig
from autotune.spec.problem import Dtype, Problem

_QUANTISED_ACTIVATIONS = (Dtype.FP8_W8A8, Dtype.INT8_W8A8)
_MOST_GATHERED_BYTES = 4 << 30
"""``gathered_layer`` reads and writes as much: beyond, it is no way to compute a layer."""
_CC = ("cc", "gcc", "clang", "g++", "c++")


@dataclass(frozen=True, slots=True)
class _TorchLayer(ProviderLayer):
    """``call`` reads the inputs' routing anew each time."""

    call: Callable[[], Tensor]

    def run(self, config: AnyConfig | None) -> Tensor:
        return self.call()


class TorchLoop(Provider):
    """A loop over experts: every dtype, everywhere."""

    name = "torch"
    version = f"torch {torch.__version__}"
    does = "a loop over experts; what is quantised becomes real in the call, products are of bf16"

    def why_not(self, problem: Problem) -> str | None:
        return None

    def prepare(self, inputs: MoeInputs) -> _TorchLayer:
        x = real_x(inputs)
        return _TorchLayer(inputs, lambda: loop_layer(inputs, x), is_capturable=False)


class TorchGrouped(Provider):
    """Grouped matrix products: ``torch.nn.functional.grouped_mm``."""

    name = "torch-grouped"
    version = f"torch {torch.__version__}"
    does = "sort by expert, two grouped matrix products, activation, sum"

    def why_not(self, problem: Problem) -> str | None:
        if problem.dtype.is_quantized:
            return f"grouped matrix products of {problem.dtype.value} are not in PyTorch"
        return _why_not_grouped(problem, only_bf16=self.site.is_gpu)

    def prepare(self, inputs: MoeInputs) -> _TorchLayer:
        return _TorchLayer(inputs, _caller(grouped_layer, inputs))


class TorchCompile(Provider):
    """Grouped matrix products through ``torch.compile``, or where there are
    none a copy of each slot's weights, as the engines' script has it."""

    name = "torch-compile"
    version = f"torch {torch.__version__}"
    does = "torch.compile of the sorted and grouped layer; integer weights become real in the call"

    def why_not(self, problem: Problem) -> str | None:
        if problem.dtype in _QUANTISED_ACTIVATIONS:
            return (
                f"torch.compile has no expert layer of {problem.dtype.value}: PyTorch multiplies "
                "two quantised operands group by group in no way that it compiles"
            )
        if not self.site.is_gpu and not any(map(shutil.which, _CC)):
            return "torch.compile needs a C++ compiler on the CPU; none is on the path"
        copied = gathered_bytes(problem)
        if _why_not_grouped(problem) and copied > _MOST_GATHERED_BYTES:
            return (
                f"a copy of each slot's weights takes {copied / 2**30:.0f} GiB, and there is no "
                f"grouped matrix product of {problem.dtype.value} here"
            )
        return None

    def prepare(self, inputs: MoeInputs) -> _TorchLayer:
        self.undo.callback(torch._dynamo.reset)
        torch._dynamo.reset()  # its limit of recompilations would fall back to eager, in silence
        grouped = _why_not_grouped(inputs.problem) is None
        call = _caller(grouped_layer if grouped else gathered_layer, inputs)
        return _TorchLayer(inputs, torch.compile(call, dynamic=False))


def _caller(layer: Callable[..., Tensor], inputs: MoeInputs) -> Callable[[], Tensor]:
    x = real_x(inputs)

    def call() -> Tensor:
        w1, w2 = real_weights(inputs)
        return layer(x, w1, w2, inputs.topk_ids, inputs.topk_weights)

    return call


def _why_not_grouped(problem: Problem, *, only_bf16: bool = True) -> str | None:
    """PyTorch has a kernel of it, and traces it, for bf16 alone; eager on the CPU takes more."""
    if only_bf16 and problem.dtype in (Dtype.FP16, Dtype.FP32):
        return f"PyTorch's grouped matrix product is of bf16, not {problem.dtype.value}"
    if hasattr(functional, "grouped_mm") or hasattr(torch, "_grouped_mm"):
        return None
    return f"torch {torch.__version__} has no grouped matrix product"


def loop_layer(inputs: MoeInputs, x: Tensor) -> Tensor:
    """Expert by expert over the experts that have tokens. Quantised weights become real in the
    call, one expert at a time; rows between the GEMMs are quantised and made real again where the
    layer does so. Waits for the device once an expert."""
    problem, element = inputs.problem, x.dtype
    out = torch.zeros(x.shape, device=x.device)
    for expert in range(problem.experts):
        tokens, choice = torch.nonzero(inputs.topk_ids == expert, as_tuple=True)
        if len(tokens) == 0:
            continue
        w1 = weight_of(problem, inputs.weights.up, "up", expert).to(element)
        w2 = weight_of(problem, inputs.weights.down, "down", expert).to(element)
        rows = _activated(x[tokens] @ w1.T, problem.intermediate)
        if inputs.elements.quantizes_activations:
            rows = as_down_reads(inputs, rows).to(element)
        down = rows @ w2.T
        weighted = down.float() * inputs.topk_weights[tokens, choice][:, None]
        out.index_add_(0, tokens, weighted)
    return out.to(element)


def grouped_layer(x: Tensor, w1: Tensor, w2: Tensor, ids: Tensor, weights: Tensor) -> Tensor:
    """Slots sorted by expert, two grouped matrix products, sum. w1 [E, 2N, H], or [E, N, H]
    without a gate, w2 [E, H, N].

    Every size is known before: nothing waits for the device. Slots of other ranks sort last,
    past the last group, and what is computed there is dropped.
    """
    experts, (tokens, top_k) = w1.shape[0], ids.shape
    flat = torch.where(ids < 0, experts, ids).flatten()
    owners, order = torch.sort(flat, stable=True)
    bounds = torch.arange(experts, device=ids.device, dtype=owners.dtype)
    ends = torch.searchsorted(owners, bounds, right=True).to(torch.int32)
    rows = x[order // top_k]
    up = grouped_product(rows, w1.transpose(1, 2), ends)
    down = grouped_product(_activated(up, w2.shape[2]), w2.transpose(1, 2), ends)
    kept = torch.where((owners < experts)[:, None], down, 0)
    slots = torch.empty_like(kept).index_copy(0, order, kept).view(tokens, top_k, -1)
    return (slots.float() * weights[..., None]).sum(dim=1).to(x.dtype)


def gathered_layer(x: Tensor, w1: Tensor, w2: Tensor, ids: Tensor, weights: Tensor) -> Tensor:
    """Each slot with a copy of its expert's weights, as the engines' torch.compile script does."""
    known = ids.clamp_min(0).long()
    up = torch.einsum("th,tknh->tkn", x, w1[known])
    down = torch.einsum("tkn,tkhn->tkh", _activated(up, w2.shape[2]), w2[known])
    scaled = down.float() * torch.where(ids < 0, 0, weights)[..., None]
    return scaled.sum(dim=1).to(x.dtype)


def grouped_product(a: Tensor, b: Tensor, ends: Tensor) -> Tensor:
    """a [R, K] in groups that end at ``ends`` [E], b [E, K, N] → [R, N]."""
    public: Any = getattr(functional, "grouped_mm", None)  # torch 2.10; before, a private name
    product = public or torch._grouped_mm
    out: Tensor = product(a, b, offs=ends)
    return out


def real_weights(inputs: MoeInputs) -> tuple[Tensor, Tensor]:
    """w1 and w2 of ``grouped_layer`` in C's type; integer weights become real here.

    For unquantised weights and those with integer weights alone.
    """
    weights = inputs.weights
    return _real(inputs, weights.up), _real(inputs, weights.down)


def _real(inputs: MoeInputs, weights: GemmWeights) -> Tensor:
    problem, element = inputs.problem, inputs.elements.c
    if scales_of(problem) is Scales.NONE:
        return weights.values
    values, zero = weights.values, weights.zero
    if problem.dtype is Dtype.INT4_W4A16:
        values = unpack_int4(values)
        zero = None if zero is None else _unpacked_rows(zero, values.shape[1])
    steps = values.float()
    if zero is not None:
        steps = steps - _along_k(zero.float(), steps.shape[2], problem.block_shape)
    return (steps * _along_k(weights.scale, steps.shape[2], problem.block_shape)).to(element)


def _along_k(scale: Tensor, k: int, block_shape: tuple[int, int] | None) -> Tensor:
    """[E] | [E, n] | [E, n, groups] → something that multiplies [E, n, k]."""
    if scale.dim() < 3:
        return scale.reshape(*scale.shape, *([1] * (3 - scale.dim())))
    group = block_shape[1] if block_shape else k
    return scale.repeat_interleave(group, 2)[:, :, :k]


def _unpacked_rows(packed: Tensor, rows: int) -> Tensor:
    """[E, ceil(n / 2), G] uint8 → [E, n, G] int8: the zero points of two rows share a byte."""
    return unpack_int4(packed.transpose(1, 2)).transpose(1, 2)[:, :rows]


def _activated(x: Tensor, n: int) -> Tensor:
    """x [R, 2n], or [R, n] without a gate → [R, n]."""
    if x.shape[-1] == n:
        return functional.relu(x).square()
    gate, up = x.chunk(2, dim=-1)
    return functional.silu(gate) * up


def gathered_bytes(problem: Problem) -> int:
    """Return the bytes that ``gathered_layer`` copies."""
    sizes = (gemm_shape(problem, "up"), gemm_shape(problem, "down"))
    slots = problem.tokens * problem.top_k
    element_bytes = 4 if problem.dtype is Dtype.FP32 else 2
    return slots * sum(shape.n * shape.k for shape in sizes) * element_bytes
