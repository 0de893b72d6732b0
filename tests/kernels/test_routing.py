from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from moe_cases import problem_of

from autotune.errors import UsageError
from autotune.kernels.routing import route, topk_ids

WIDE = problem_of(experts=64, top_k=8, tokens=500)


def test_ids_are_distinct_and_in_range() -> None:
    ids = topk_ids(WIDE, 0)
    assert ids.shape == (500, 8)
    assert ids.dtype == np.int32
    assert ids.min() == 0
    assert ids.max() == 63
    assert all(len(set(row)) == 8 for row in ids.tolist())


def test_instances_differ_and_come_back() -> None:
    assert np.array_equal(topk_ids(WIDE, 2, seed=5), topk_ids(WIDE, 2, seed=5))
    assert not np.array_equal(topk_ids(WIDE, 2, seed=5), topk_ids(WIDE, 3, seed=5))
    assert not np.array_equal(topk_ids(WIDE, 2, seed=5), topk_ids(WIDE, 2, seed=6))


def test_uniform_reaches_experts_alike() -> None:
    counts = np.bincount(topk_ids(replace(WIDE, tokens=4000), 0).ravel(), minlength=64)
    assert counts.min() > 0.75 * counts.mean()
    assert counts.max() < 1.25 * counts.mean()


def test_weights_fall_and_sum_to_one() -> None:
    weights = route(WIDE, 0).weights
    assert weights.dtype == np.float32
    np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=1e-5)
    assert (np.diff(weights, axis=1) <= 0).all()


def test_expert_parallel_ranks_share_all_slots() -> None:
    ranks = [topk_ids(replace(WIDE, experts=16, ep_size=4, ep_rank=r), 0) for r in range(4)]
    assert (sum((ids >= 0).astype(int) for ids in ranks) == 1).all()
    assert max(ids.max() for ids in ranks) == 15


def test_shared_experts_are_visited_by_every_token() -> None:
    routing = route(replace(WIDE, experts=66, top_k=10, fused_shared_experts=2), 0)
    assert (routing.ids[:, 8:] == [64, 65]).all()
    assert (routing.weights[:, 8:] == 1).all()
    assert routing.ids[:, :8].max() < 64


def test_a_single_expert_takes_every_token() -> None:
    routing = route(problem_of(experts=1, top_k=1), 0)
    assert (routing.ids == 0).all()
    assert (routing.weights == 1).all()


def test_zipf_prefers_few_experts_others_in_each_instance() -> None:
    skewed = replace(WIDE, routing="zipf:1.5", top_k=2)
    counts = [np.bincount(topk_ids(skewed, i).ravel(), minlength=64) for i in range(2)]
    assert all(count.max() > 5 * count.mean() for count in counts)
    assert counts[0].argmax() != counts[1].argmax()


@pytest.mark.parametrize("routing", ["zipf", "zipf:x", "zipf:-1", "zipf:nan", "even", "uniform:2"])
def test_an_unknown_routing_is_named(routing: str) -> None:
    with pytest.raises(UsageError, match="zipf:A"):
        route(replace(WIDE, routing=routing), 0)
