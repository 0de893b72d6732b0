from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from moe_cases import problem_of
from numpy.typing import NDArray

from autotune.errors import UsageError
from autotune.routing.distributions import canonical
from autotune.routing.draw import instances_of, most_loaded_rank, route, topk_ids

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


def test_the_smaller_c_of_dirichlet_the_less_even() -> None:
    most = [_counts(f"dirichlet:{c}").max() for c in (0.1, 1.0, 100.0)]
    assert most[0] > 1.5 * most[1] > 2 * most[2]


def test_balanced_gives_every_expert_as_many_rows() -> None:
    assert np.ptp(_counts("balanced")) <= 1  # 4,000 slots for 64 experts
    few = topk_ids(replace(WIDE, routing="balanced", tokens=5), 0)
    assert len(set(few.ravel().tolist())) == 40


def test_worst_sends_all_tokens_to_the_same_experts() -> None:
    ids = topk_ids(replace(WIDE, routing="worst"), 0)
    assert len(set(ids.ravel().tolist())) == 8
    assert set(ids.ravel().tolist()) != set(topk_ids(replace(WIDE, routing="worst"), 1).ravel())


def test_worst_loads_the_rank_that_is_tuned() -> None:
    """The rank has all experts where they are fewer than top-k, and the others the rest."""
    for experts, own in ((16, 8), (4, 4)):
        part = replace(WIDE, experts=experts, ep_size=4, ep_rank=2, routing="worst")
        for instance in range(10):
            ids = topk_ids(part, instance)
            assert ((ids >= 0).sum(axis=1) == own).all()
        assert most_loaded_rank(part) == 2
        assert most_loaded_rank(replace(part, ep_rank=0)) == 0


def test_worst_of_one_rank_is_what_studies_were_measured_on() -> None:
    """The top-k of one permutation of all experts."""
    expected = np.random.default_rng((0, 3)).permutation(64)[:8]
    assert set(topk_ids(replace(WIDE, routing="worst"), 3)[0].tolist()) == set(expected.tolist())


@pytest.mark.parametrize(
    ("routing", "name"),
    [
        ("zipf:1.0", "zipf:1"),
        ("zipf:1e0", "zipf:1"),
        ("zipf:1.20", "zipf:1.2"),
        ("zipf:-0", "zipf:0"),
        ("grouped:8:4", "grouped:8:4"),
        ("grouped", "grouped"),
        ("zipf:x", "zipf:x"),
        ("recorded:012345678901", "recorded:012345678901"),
    ],
)
def test_one_spelling_for_one_routing(routing: str, name: str) -> None:
    assert canonical(routing) == name


def test_grouped_keeps_a_token_within_its_groups() -> None:
    ids = topk_ids(replace(WIDE, routing="grouped:8:2"), 0)
    assert max(len(set(row)) for row in (ids // 8).tolist()) == 2
    assert set((ids // 8).ravel().tolist()) == set(range(8))


@pytest.mark.parametrize(
    "routing", ["uniform", "zipf:1.2", "dirichlet:0.01", "balanced", "worst", "grouped:8:4"]
)
def test_every_distribution_is_seeded_and_distinct(routing: str) -> None:
    problem = replace(WIDE, routing=routing, tokens=64)
    instances = [route(problem, instance, seed=3) for instance in range(3)]
    for instance, drawn in enumerate(instances):
        again = route(problem, instance, seed=3)
        assert np.array_equal(drawn.ids, again.ids)
        assert np.array_equal(drawn.weights, again.weights)
        assert all(len(set(row)) == 8 for row in drawn.ids.tolist())
        assert 0 <= drawn.ids.min() <= drawn.ids.max() < 64
        np.testing.assert_allclose(drawn.weights.sum(axis=1), 1, rtol=1e-5)
    assert not np.array_equal(instances[0].ids, instances[1].ids)


def test_several_routings_take_turns() -> None:
    both = replace(WIDE, routing="uniform,worst")
    for instance in range(4):
        alone = replace(WIDE, routing=("uniform", "worst")[instance % 2])
        assert np.array_equal(topk_ids(both, instance), topk_ids(alone, instance // 2))
    assert instances_of(both, 9) == 10
    assert instances_of(WIDE, 9) == 9


@pytest.mark.parametrize(
    ("routing", "words"),
    [
        ("zipf", "write zipf:A with numbers"),
        ("zipf:x", "write zipf:A"),
        ("zipf:-1", "write zipf:A"),
        ("zipf:nan", "write zipf:A"),
        ("even", "allowed are uniform, zipf:A"),
        ("", "allowed are uniform, zipf:A"),
        ("uniform:2", "write uniform without a number"),
        ("dirichlet:0", "from 0.01"),
        ("dirichlet:0.0001", "a number from 0.01"),
        ("grouped:7:2", "7 groups do not divide 64"),
        ("grouped:8:9", "cannot keep 9 of 8"),
        ("grouped:16:1", "hold fewer than 8"),
        ("grouped:8.5:2", "whole numbers"),
        ("recorded:0123", "Give --topk-ids-dir"),
        ("uniform,even", "allowed are uniform, zipf:A"),
    ],
)
def test_an_unknown_routing_is_named(routing: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        for instance in range(2):
            route(replace(WIDE, routing=routing), instance)


def _counts(routing: str) -> NDArray[np.int64]:
    return np.bincount(topk_ids(replace(WIDE, routing=routing), 0).ravel(), minlength=64)
