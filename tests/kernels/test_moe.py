from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from moe_cases import TILES, inputs_of, problem_of

from autotune.kernels.inputs import MoeInputs, make_routing
from autotune.kernels.moe import make_buffers, run_moe
from autotune.kernels.reference import moe_reference
from autotune.kernels.verify import verify
from autotune.spec.config import ConfigPair
from autotune.spec.problem import Dtype, KernelMode


def assert_right(inputs: MoeInputs) -> None:
    verdict = verify(inputs, make_buffers(inputs), TILES, moe_reference(inputs))
    assert verdict.is_right, verdict


def test_expert_parallel_rank_computes_its_share(device: str) -> None:
    inputs = inputs_of(problem_of(ep_size=4, ep_rank=3, tokens=12), device)
    assert (inputs.topk_ids == -1).any()
    assert (inputs.topk_ids == -1).all(dim=1).any(), "no token without a local expert"
    assert_right(inputs)


def test_fused_shared_expert_is_visited_by_all(device: str) -> None:
    assert_right(inputs_of(problem_of(experts=5, top_k=3, fused_shared_experts=1), device))


def test_another_routing_needs_no_other_tensors(device: str) -> None:
    inputs = inputs_of(problem_of(), device)
    buffers = make_buffers(inputs)
    first = run_moe(inputs, buffers, TILES).clone()
    inputs.set_routing(make_routing(inputs.problem, 1, inputs.x.device))
    assert verify(inputs, buffers, TILES, moe_reference(inputs)).is_right
    assert not torch.equal(first, buffers.out)


def test_down_may_have_its_own_config(device: str) -> None:
    inputs = inputs_of(problem_of(), device)
    buffers = make_buffers(inputs)
    same = run_moe(inputs, buffers, TILES).clone()
    down = replace(TILES, block_size_n=64, block_size_k=16)
    other = run_moe(inputs, buffers, ConfigPair(TILES, down))
    torch.testing.assert_close(other, same, rtol=1e-2, atol=1e-2)


def test_down_must_share_block_size_m() -> None:
    with pytest.raises(ValueError, match="BLOCK_SIZE_M must be the same"):
        ConfigPair(TILES, replace(TILES, block_size_m=32))


@pytest.mark.gpu
@pytest.mark.parametrize("use_tma", [False, True])
@pytest.mark.parametrize("tokens", [1, 100])
def test_a_graph_replays_the_call_for_another_routing(tokens: int, use_tma: bool) -> None:
    if use_tma and torch.cuda.get_device_capability()[0] < 9:
        pytest.skip("this GPU has no TMA")
    problem = problem_of(
        Dtype.BF16, experts=16, top_k=4, hidden=512, intermediate=256, kernel=KernelMode.SEPARATE
    )
    inputs = inputs_of(replace(problem, tokens=tokens), "cuda")
    buffers, half = make_buffers(inputs), replace(TILES, use_tma=use_tma)
    pair = ConfigPair(half, half)
    run_moe(inputs, buffers, pair)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run_moe(inputs, buffers, pair)
    inputs.set_routing(make_routing(inputs.problem, 1, inputs.x.device))
    graph.replay()
    replayed = buffers.out.clone()
    assert torch.equal(replayed, run_moe(inputs, buffers, pair))
