from __future__ import annotations

import pytest
import torch
from moe_cases import uneven_ids
from single_references import align_reference

from autotune.kernels import align as align_file
from autotune.kernels.align import Alignment, align
from autotune.routing.draw import topk_ids
from autotune.spec.problem import Problem, padded_slots


def buffers_for(ids: torch.Tensor, experts: int, block_size_m: int) -> Alignment:
    problem = Problem(experts, ids.shape[1], 16, 16, ids.shape[0])
    size = padded_slots(problem, block_size_m)

    def filled(count: int) -> torch.Tensor:
        return torch.full((count,), -7, dtype=torch.int32, device=ids.device)

    return Alignment(filled(size), filled(size // block_size_m), filled(1), filled(experts))


def assert_aligned(ids: torch.Tensor, experts: int, block_size_m: int) -> None:
    out = buffers_for(ids, experts, block_size_m)
    align(ids, block_size_m, out)
    reference = align_reference(ids, experts, block_size_m)
    used = int(out.num_tokens_post_padded)
    assert used == len(reference.sorted_token_ids)
    assert torch.equal(out.sorted_token_ids[:used].cpu(), reference.sorted_token_ids.cpu())
    assert torch.equal(out.expert_ids[: used // block_size_m].cpu(), reference.expert_ids)


@pytest.mark.parametrize("block_size_m", [16, 64])
@pytest.mark.parametrize("top_k", [1, 2, 8])
@pytest.mark.parametrize("tokens", [1, 7, 33])
def test_random_routing_is_sorted_and_padded(
    tokens: int, top_k: int, block_size_m: int, device: str
) -> None:
    ids = topk_ids(Problem(11, top_k, 16, 16, tokens), 3)
    assert_aligned(torch.from_numpy(ids).to(device), 11, block_size_m)


def test_several_chunks_keep_the_order(monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    monkeypatch.setattr(align_file, "CHUNK", 16)
    ids = topk_ids(Problem(5, 3, 16, 16, 40), 0)
    assert_aligned(torch.from_numpy(ids).to(device), 5, 16)


def test_an_expert_without_tokens_takes_no_block(device: str) -> None:
    assert_aligned(uneven_ids(20, 3, 6, device), 6, 16)


def test_one_expert_takes_all(device: str) -> None:
    assert_aligned(torch.zeros((19, 1), dtype=torch.int32, device=device), 1, 16)


def test_dropped_slots_vanish(device: str) -> None:
    ids = uneven_ids(20, 4, 6, device)
    ids[::2, 1:3] = -1
    assert_aligned(ids, 6, 16)


def test_nothing_is_left_where_all_slots_are_dropped(device: str) -> None:
    assert_aligned(torch.full((5, 2), -1, dtype=torch.int32, device=device), 3, 16)


@pytest.mark.parametrize("block_size_m", [16, 256])
@pytest.mark.parametrize(("experts", "top_k", "tokens"), [(64, 2, 1), (4, 2, 500), (1, 1, 3)])
def test_bound_holds_the_worst_routing(
    experts: int, top_k: int, tokens: int, block_size_m: int
) -> None:
    slots = tokens * top_k
    used = min(slots, experts)
    worst = slots + used * (block_size_m - 1)
    assert padded_slots(Problem(experts, top_k, 16, 16, tokens), block_size_m) >= worst
