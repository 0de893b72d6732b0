from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch
from moe_cases import H200, TILES, inputs_of, problem_of, skip_where_broken, uneven_ids
from single_references import align_reference, gemm_reference

from autotune.kernels.inputs import GemmWeights, MoeInputs
from autotune.kernels.launch import GemmOperands, launch_gemm
from autotune.kernels.quantize import dequantize, largest, quantize, row_tile
from autotune.kernels.reference import weight_of
from autotune.spec.binary import Which, gemm_shape, swaps_operands
from autotune.spec.config import Config
from autotune.spec.problem import Dtype, Problem, padded_slots

TOLERANCE = {torch.float16: 2e-3, torch.bfloat16: 1.6e-2, torch.float32: 2e-3}
"""Share of the largest output: C's rounding, and TF32 where C is fp32 on a GPU."""


@dataclass(frozen=True)
class Rows:
    """A of one GEMM as the kernel reads it, and as real values."""

    values: torch.Tensor
    scale: torch.Tensor
    real: torch.Tensor


def rows_of(inputs: MoeInputs, count: int, k: int) -> Rows:
    problem, elements = inputs.problem, inputs.elements
    x = torch.randn(count, k, generator=torch.Generator().manual_seed(7)).to(inputs.x.device)
    if not elements.quantizes_activations:
        values = x.to(elements.a)
        return Rows(values, torch.ones(1, device=x.device), values.float())
    tile = row_tile(problem, count, k)
    values, scale = quantize(x, tile, elements.a, largest(elements.a, problem.dtype))
    return Rows(values, scale.contiguous(), dequantize(values, scale, tile))


def run_gemm(
    inputs: MoeInputs, ids: torch.Tensor, config: Config, which: Which, rows: Rows
) -> torch.Tensor:
    """C [R, N] in fp32; what the kernel does not write stays NaN."""
    problem, weights = inputs.problem, getattr(inputs.weights, which)
    aligned = align_reference(ids, problem.experts, config.block_size_m)
    sorted_ids = torch.full((padded_slots(problem, config.block_size_m),), 0, dtype=torch.int32)
    sorted_ids[: len(aligned.sorted_token_ids)] = aligned.sorted_token_ids.cpu()
    c_type = torch.float32 if problem.dtype is Dtype.FP8_W8A8 else inputs.elements.c
    c = torch.full((ids.numel(), gemm_shape(problem, which).n), float("nan"), dtype=c_type)
    operands = GemmOperands(
        a=rows.values,
        b=weights.values,
        c=c.to(ids.device),
        a_scale=rows.scale,
        b_scale=weights.scale,
        b_zero=weights.zero,
        topk_weights=inputs.topk_weights,
        sorted_token_ids=sorted_ids.to(ids.device),
        expert_ids=aligned.expert_ids.to(ids.device),
        num_tokens_post_padded=torch.tensor([len(aligned.sorted_token_ids)], dtype=torch.int32).to(
            ids.device
        ),
    )
    launch_gemm(operands, problem, config, which, inputs.target)
    return operands.c


def expected(inputs: MoeInputs, ids: torch.Tensor, which: Which, rows: Rows) -> torch.Tensor:
    problem, weights = inputs.problem, getattr(inputs.weights, which)
    slots = torch.arange(ids.numel(), device=ids.device)
    real = torch.stack([weight_of(problem, weights, which, e) for e in range(problem.experts)])
    slot_rows = slots // problem.top_k if which == "up" else slots
    reference = gemm_reference(rows.real, real, slot_rows, ids)
    return reference if which == "up" else reference * inputs.topk_weights.flatten()[:, None]


def assert_agrees(
    problem: Problem,
    device: str,
    *,
    which: Which = "up",
    config: Config = TILES,
    ids: torch.Tensor | None = None,
) -> None:
    inputs = inputs_of(problem, device)
    ids = inputs.topk_ids if ids is None else ids
    count = problem.tokens if which == "up" else ids.numel()
    rows = rows_of(inputs, count, gemm_shape(problem, which).k)
    c = run_gemm(inputs, ids, config, which, rows)
    reference = expected(inputs, ids, which, rows)
    is_kept = (ids >= 0).flatten()
    assert c[~is_kept].isnan().all(), "a dropped slot was written"
    error = (c.float() - reference)[is_kept].abs().max() / reference.abs().max()
    assert error < TOLERANCE[c.dtype]


@pytest.mark.parametrize("which", ["up", "down"])
@pytest.mark.parametrize("dtype", [Dtype.FP16, Dtype.FP32, Dtype.BF16])
def test_sizes_that_are_no_multiple_of_a_tile(dtype: Dtype, which: Which, device: str) -> None:
    skip_where_broken(dtype, device)
    assert_agrees(problem_of(dtype), device, which=which)


@pytest.mark.parametrize("which", ["up", "down"])
def test_even_sizes(which: Which, device: str) -> None:
    assert_agrees(problem_of(hidden=64, intermediate=32), device, which=which)


@pytest.mark.parametrize("top_k", [1, 3, 8])
def test_every_top_k(top_k: int, device: str) -> None:
    assert_agrees(problem_of(experts=8, top_k=top_k, tokens=5), device)


@pytest.mark.parametrize("group_size_m", [1, 3, 64])
def test_every_program_order(group_size_m: int, device: str) -> None:
    config = replace(TILES, group_size_m=group_size_m)
    assert_agrees(problem_of(tokens=20), device, config=config)


def test_uneven_routing_and_an_empty_expert(device: str) -> None:
    ids = uneven_ids(20, 2, 4, device)
    assert_agrees(problem_of(tokens=20), device, ids=ids)


def test_single_expert(device: str) -> None:
    assert_agrees(problem_of(experts=1, top_k=1, tokens=17), device)


@pytest.mark.parametrize("which", ["up", "down"])
def test_dropped_slots_are_not_written(which: Which, device: str) -> None:
    problem = problem_of(ep_size=2, ep_rank=1, tokens=20)
    assert_agrees(problem, device, which=which)


@pytest.mark.parametrize("which", ["up", "down"])
@pytest.mark.parametrize(
    "scales",
    [{}, {"per_channel_quant": True}, {"block_shape": (32, 32)}, {"block_shape": (64, 64)}],
    ids=str,
)
def test_swapped_operands(scales: dict[str, object], which: Which, device: str) -> None:
    """Tiles of 16 rows and 64 columns, as fp8 has them on SM90."""
    problem = problem_of(Dtype.FP8_W8A8, hidden=144, intermediate=80, **scales)
    config = Config(16, 64, 32, 2)
    assert swaps_operands(problem, config, H200)
    assert_agrees(problem, device, config=config, which=which)


def test_tiles_wider_than_a_scale_block(device: str) -> None:
    problem = problem_of(Dtype.FP8_W8A8, hidden=128, intermediate=64, block_shape=(32, 64))
    assert_agrees(problem, device, config=Config(16, 64, 64, 1))


def test_weights_hold_what_the_scales_say(device: str) -> None:
    """Quantising loses at most half a step: fp8 has steps of an eighth of a value's binade."""
    problem = problem_of(Dtype.FP8_W8A8, hidden=64, intermediate=32, block_shape=(32, 32))
    weights: GemmWeights = inputs_of(problem, device).weights.up
    assert weights.values.float().abs().amax() == 448
    assert weights.scale.shape == (4, 2, 2)
