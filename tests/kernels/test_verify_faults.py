"""Right results of an engine are accepted and faults are not: every dtype, from one token on.

The layer is computed eagerly, with what an engine may do otherwise than the reference: fp32 sums
in another order, silu(gate) rounded before it is multiplied, slots added up in C's type. A fault is
put into that.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache

import pytest
import torch
from moe_cases import H200
from torch import Tensor

from autotune.kernels.inputs import GemmWeights, MoeInputs, make_inputs, make_weights
from autotune.kernels.quantize import largest, quantize, row_tile
from autotune.kernels.reference import (
    as_dot_reads,
    as_down_reads,
    moe_reference,
    real_rows,
    real_x,
)
from autotune.kernels.verify import PIECE, TOLERANCE, relative_error, rounding
from autotune.spec.binary import Scales, scales_of
from autotune.spec.problem import Dtype, Problem

LAYER = Problem(experts=4, top_k=2, hidden=256, intermediate=128, tokens=1)
MANY_SLOTS = Problem(experts=9, top_k=5, hidden=256, intermediate=128, tokens=1)
PROBLEMS = {
    "fp32": replace(LAYER, dtype=Dtype.FP32),
    "fp16": replace(LAYER, dtype=Dtype.FP16),
    "bf16": LAYER,
    "bf16 EP2": replace(LAYER, ep_size=2, ep_rank=1),
    "fp8 tensor": replace(LAYER, dtype=Dtype.FP8_W8A8),
    "fp8 channel": replace(LAYER, dtype=Dtype.FP8_W8A8, per_channel_quant=True),
    "fp8 block": replace(LAYER, dtype=Dtype.FP8_W8A8, block_shape=(128, 128)),
    "fp8 block, shared expert": replace(
        MANY_SLOTS, dtype=Dtype.FP8_W8A8, block_shape=(128, 128), fused_shared_experts=1
    ),
    "int8 channel": replace(LAYER, dtype=Dtype.INT8_W8A8, per_channel_quant=True),
    "int8 block": replace(LAYER, dtype=Dtype.INT8_W8A8, block_shape=(128, 128)),
    "int8_w8a16 channel": replace(LAYER, dtype=Dtype.INT8_W8A16),
    "int8_w8a16 group": replace(LAYER, dtype=Dtype.INT8_W8A16, block_shape=(0, 128)),
    "int4": replace(LAYER, dtype=Dtype.INT4_W4A16, block_shape=(0, 128)),
    "int4 zero points": replace(
        LAYER, dtype=Dtype.INT4_W4A16, block_shape=(0, 128), zero_points=True
    ),
}
TOKENS = (1, 16, 300)


@dataclass(frozen=True)
class Engine:
    """What an engine's layer does otherwise than the reference."""

    sum_error: float = 2**-13
    """Of an fp32 sum, over the row's root mean square."""
    lost_of_k: int = 0
    """Last elements of K that neither GEMM reads."""

    def run(self, inputs: MoeInputs) -> Tensor:
        problem, c = inputs.problem, inputs.elements.c
        x, out = real_rows(inputs), torch.zeros(problem.tokens, problem.hidden)
        for expert in range(problem.experts):
            tokens, choice = torch.nonzero(inputs.topk_ids == expert, as_tuple=True)
            w1 = as_dot_reads(inputs, inputs.weights.up, "up", expert)
            w2 = as_dot_reads(inputs, inputs.weights.down, "down", expert)
            gate, up = self._product(x[tokens], w1).to(c).chunk(2, dim=-1)
            rows = torch.nn.functional.silu(gate.float()).to(c) * up
            down = self._product(as_down_reads(inputs, rows), w2)
            weighted = (down * inputs.topk_weights[tokens, choice][:, None]).to(c)
            out[tokens] = (out[tokens] + weighted.float()).to(c).float()
        return out

    def _product(self, a: Tensor, b: Tensor) -> Tensor:
        kept = a.shape[1] - self.lost_of_k
        exact = a[:, :kept] @ b[:, :kept].T
        noise = torch.randn(exact.shape, generator=torch.Generator().manual_seed(3))
        return exact + self.sum_error * exact.square().mean(1, keepdim=True).sqrt() * noise


@lru_cache
def inputs_of(name: str, tokens: int) -> MoeInputs:
    problem = replace(PROBLEMS[name], tokens=tokens)
    return make_inputs(problem, make_weights(problem, H200, "cpu"), H200)


@lru_cache
def reference_of(name: str, tokens: int) -> Tensor:
    return moe_reference(inputs_of(name, tokens))


@pytest.mark.parametrize("tokens", TOKENS)
@pytest.mark.parametrize("name", PROBLEMS)
def test_a_right_engine_is_accepted(name: str, tokens: int) -> None:
    output = Engine().run(inputs_of(name, tokens))
    error = relative_error(output, reference_of(name, tokens))
    assert error < TOLERANCE[PROBLEMS[name].dtype] / 1.4


def _busy(inputs: MoeInputs) -> int:
    """A token with a slot on this rank."""
    return int(torch.nonzero((inputs.topk_ids >= 0).any(1)).flatten()[-1])


def _swapped_column(inputs: MoeInputs) -> Tensor:
    """The column that differs most: of one token, it is one element that is wrong."""
    out = Engine().run(inputs)
    column = int(out.diff(dim=1).norm(dim=0).argmax())
    out[:, column] = out[:, column + 1].clone()
    return out


def _other_row(inputs: MoeInputs) -> Tensor:
    out = Engine().run(inputs)
    token = _busy(inputs)
    out[token] = out[token].roll(1)
    return out


def _lost_tile(inputs: MoeInputs) -> Tensor:
    out = Engine().run(inputs)
    out[_busy(inputs), 32:96] = 0
    return out


def _not_a_number(inputs: MoeInputs) -> Tensor:
    out = Engine().run(inputs)
    out[-1, -1] = math.nan
    return out


def _lost_slot(inputs: MoeInputs) -> Tensor:
    ids, token = inputs.topk_ids.clone(), _busy(inputs)
    ids[token, int(inputs.topk_weights[token].where(ids[token] >= 0, -1).argmax())] = -1
    return Engine().run(replace(inputs, topk_ids=ids))


def _wrong_expert(inputs: MoeInputs) -> Tensor:
    ids, token = inputs.topk_ids.clone(), _busy(inputs)
    slot = int(inputs.topk_weights[token].where(ids[token] >= 0, -1).argmax())
    ids[token, slot] = (ids[token, slot] + 1) % inputs.problem.experts
    return Engine().run(replace(inputs, topk_ids=ids))


def _lost_tail(inputs: MoeInputs) -> Tensor:
    return Engine(lost_of_k=32).run(inputs)


def _misplaced_scale(inputs: MoeInputs) -> Tensor:
    """Down's scales are the next expert's."""
    weights = inputs.weights
    down = replace(weights.down, scale=weights.down.scale.roll(1, 0))
    return Engine().run(replace(inputs, weights=replace(weights, down=down)))


FAULTS: dict[str, Callable[[MoeInputs], Tensor]] = {
    "a column is its neighbour": _swapped_column,
    "a row is shifted": _other_row,
    "a tile of a row is lost": _lost_tile,
    "not a number": _not_a_number,
    "a slot is lost": _lost_slot,
    "a slot of another expert": _wrong_expert,
    "the tail of K is lost": _lost_tail,
    "the next expert's scales": _misplaced_scale,
}


@pytest.mark.parametrize("tokens", TOKENS)
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", PROBLEMS)
def test_a_fault_is_rejected(name: str, fault: str, tokens: int) -> None:
    inputs = inputs_of(name, tokens)
    if fault == "the next expert's scales" and scales_of(inputs.problem) in (
        Scales.NONE,
        Scales.TENSOR,  # all alike, to a percent: the largest of a whole matrix
    ):
        pytest.skip("no scales that differ")
    error = relative_error(FAULTS[fault](inputs), reference_of(name, tokens))
    assert error > TOLERANCE[inputs.problem.dtype]


@pytest.mark.parametrize("hidden", [PIECE, 72, 2048, 2880, 4097])
def test_the_error_of_rounding_does_not_grow_with_the_batch(hidden: int) -> None:
    eps = torch.finfo(torch.bfloat16).eps
    errors = []
    for tokens in (1, 16, 300, 2048):
        reference = torch.randn(tokens, hidden, generator=torch.Generator().manual_seed(tokens))
        errors.append(relative_error(reference.to(torch.bfloat16), reference) / rounding(eps))
    assert all(0.7 < error < 2 for error in errors)
    assert errors[-1] / errors[1] < 1.6


def test_the_noise_of_a_rounding_is_what_the_tolerance_says() -> None:
    values = torch.randn(100_000, generator=torch.Generator().manual_seed(0)).exp()
    for element in (torch.float16, torch.bfloat16, torch.float8_e4m3fn):
        kept = values[(values > 2**-4) & (values < 2**4)]
        noise = ((kept.to(element).float() - kept) / kept).square().mean().sqrt()
        assert float(noise) == pytest.approx(rounding(torch.finfo(element).eps), rel=0.03)


def test_an_engine_that_quantises_again_reads_the_same_values() -> None:
    """The reference's activations are those that an engine finds in the real ones."""
    for name in ("fp8 channel", "fp8 block", "int8 channel"):
        inputs = inputs_of(name, 16)
        a = inputs.elements.a
        tile = row_tile(inputs.problem, *inputs.x.shape)
        values, scale = quantize(real_x(inputs), tile, a, largest(a, inputs.problem.dtype))
        assert torch.equal(values.float(), inputs.x.float())
        assert torch.equal(scale.flatten(), inputs.x_scale.flatten())


def test_scales_of_groups_are_as_engines_store_them() -> None:
    for name in ("int4", "int4 zero points", "int8_w8a16 group"):
        weights: GemmWeights = inputs_of(name, 1).weights.up
        assert torch.equal(weights.scale, weights.scale.to(torch.bfloat16).float())
