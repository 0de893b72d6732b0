"""Expert parallelism as serving has it, and shared experts served as routed ones."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from moe_cases import TILES, inputs_of, problem_of
from single_references import align_reference

from autotune.kernels.inputs import GemmWeights, MoeInputs, MoeWeights
from autotune.kernels.moe import make_buffers, run_moe
from autotune.routing.draw import most_loaded_rank, route, topk_ids
from autotune.spec.config import AnyConfig, ConfigPair
from autotune.spec.problem import Dtype, KernelMode, Problem

# Rows of padding hold garbage: what is computed from it is not stored.
pytestmark = pytest.mark.filterwarnings("ignore:(invalid|overflow).*encountered:RuntimeWarning")

RANKS = 8
WHOLE = problem_of(experts=16, top_k=4, tokens=12)
WITH_TMA = replace(TILES, use_tma=True)


def rank_problem(whole: Problem, rank: int) -> Problem:
    return replace(whole, experts=whole.experts // RANKS, ep_size=RANKS, ep_rank=rank)


def rank_inputs(inputs: MoeInputs, rank: int) -> MoeInputs:
    """The same tokens, with the weights of the rank's experts and its routing."""
    problem = rank_problem(inputs.problem, rank)
    held = slice(rank * problem.experts, (rank + 1) * problem.experts)
    weights = MoeWeights(
        *(_held(half, held) for half in (inputs.weights.up, inputs.weights.down)),
        down_row_scale=inputs.weights.down_row_scale,
    )
    routing, device = route(problem, 0), inputs.x.device
    return replace(
        inputs,
        problem=problem,
        weights=weights,
        topk_ids=torch.from_numpy(routing.ids).to(device),
        topk_weights=torch.from_numpy(routing.weights).to(device),
    )


def _held(weights: GemmWeights, held: slice) -> GemmWeights:
    has_scales = weights.scale.numel() > 1
    return GemmWeights(weights.values[held], weights.scale[held] if has_scales else weights.scale)


@pytest.mark.parametrize(
    ("whole", "config"),
    [
        (WHOLE, TILES),
        (replace(WHOLE, dtype=Dtype.INT8_W8A8), TILES),
        (replace(WHOLE, kernel=KernelMode.SEPARATE), ConfigPair(TILES, WITH_TMA)),
    ],
    ids=["fp16", "int8", "TMA"],
)
def test_the_sum_over_ranks_is_the_single_ranks_result(
    whole: Problem, config: AnyConfig, device: str
) -> None:
    inputs = inputs_of(whole, device)
    single = run_moe(inputs, make_buffers(inputs), config).float()
    total = torch.zeros_like(single)
    for rank in range(RANKS):
        one = rank_inputs(inputs, rank)
        total += run_moe(one, make_buffers(one), config).float()
    torch.testing.assert_close(total, single, rtol=1e-2, atol=1e-2)


def test_a_rank_of_eight_computes_an_eighth_of_the_rows() -> None:
    whole = replace(WHOLE, experts=128, top_k=8, tokens=1000)
    rows = [int((topk_ids(rank_problem(whole, rank), 0) >= 0).sum()) for rank in range(RANKS)]
    assert sum(rows) == 1000 * 8
    assert all(0.9 < count / 1000 < 1.1 for count in rows)


def test_the_most_loaded_rank_is_the_one_with_the_most_rows() -> None:
    whole = replace(WHOLE, experts=64, top_k=4, tokens=16, routing="zipf:1.2")
    problem = rank_problem(whole, 3)
    rows = [
        sum(int((topk_ids(rank_problem(whole, rank), i) >= 0).sum()) for i in range(5))
        for rank in range(RANKS)
    ]
    assert most_loaded_rank(problem, instances=5) == int(np.argmax(rows))
    assert most_loaded_rank(replace(problem, ep_rank=0), instances=5) == int(np.argmax(rows))


def test_a_fused_shared_expert_has_a_full_run_of_its_own() -> None:
    """Behind the routed experts in the alignment, with every token in order."""
    problem = problem_of(experts=5, top_k=3, tokens=21, fused_shared_experts=1)
    aligned = align_reference(torch.from_numpy(topk_ids(problem, 0)), 5, 16)
    blocks = (aligned.expert_ids == 4).nonzero().flatten().tolist()
    assert blocks == [len(aligned.expert_ids) - 2, len(aligned.expert_ids) - 1]
    slots = aligned.sorted_token_ids[-32:]
    assert slots[:21].tolist() == [3 * token + 2 for token in range(21)]
    assert (slots[21:] == 63).all()


def test_a_shared_expert_does_not_change_the_routed_choice() -> None:
    fused = problem_of(experts=5, top_k=3, tokens=21, fused_shared_experts=1)
    bare = replace(fused, experts=4, top_k=2, fused_shared_experts=0)
    assert np.array_equal(topk_ids(fused, 0)[:, :2], topk_ids(bare, 0))
