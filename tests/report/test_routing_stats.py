from __future__ import annotations

import numpy as np
import pytest

from autotune.backends.routed_rows import routed_rows
from autotune.errors import UsageError
from autotune.report.routing_stats import (
    load_row,
    padding_row,
    padding_words,
    routing_stats,
    stats_picture,
)
from autotune.routing.trace import ExpertLoad, LayerRows, RoutingTrace, expert_loads
from autotune.spec.problem import Problem

EXPERTS, TOP_K = 8, 2


@pytest.fixture(scope="module")
def recording() -> RoutingTrace:
    """Two layers; low ids are chosen more often, and expert 7 never in layer 2."""
    rng = np.random.default_rng(0)

    def layer(weights: list[float]) -> LayerRows:
        gates = np.log(np.maximum(weights, 1e-300)) + rng.gumbel(size=(300, EXPERTS))
        ids = np.argsort(-gates, axis=1)[:, :TOP_K].astype(np.int32)
        return LayerRows(ids, (np.arange(300) // 50).astype(np.int32))

    return RoutingTrace(
        {1: layer([4, 3, 2, 1, 1, 1, 1, 1]), 2: layer([8, 1, 1, 1, 1, 1, 1, 0])}, "t"
    )


def test_loads_of_a_layer(recording: RoutingTrace) -> None:
    even, skewed = expert_loads(recording, EXPERTS, TOP_K)
    assert (even.layer, skewed.layer) == (1, 2)
    assert even.rows.sum() == 300 * TOP_K
    assert skewed.idle == 1
    assert skewed.busiest == pytest.approx(skewed.rows[0] * EXPERTS / 600)
    assert 0 < skewed.entropy < even.entropy < 1
    rank, share = skewed.slowest_rank(2)
    assert (rank, share) == (0, pytest.approx(skewed.rows[:4].sum() / 300))


def test_extremes_of_entropy() -> None:
    assert ExpertLoad(0, 8, np.full(8, 2)).entropy == pytest.approx(1)
    assert ExpertLoad(0, 8, np.array([16, 0, 0, 0])).entropy == pytest.approx(0)
    assert ExpertLoad(0, 8, np.array([8])).entropy == 1


def test_rows_for_people_and_a_picture(recording: RoutingTrace) -> None:
    loads, paddings = routing_stats(recording, EXPERTS, TOP_K, 4, [1, 64])
    rows = [load_row(load, 4) for load in loads]
    assert [(row.layer, row.slowest_rank) for row in rows] == [(1, 0), (2, 0)]
    assert {load_row(load, 1).slowest_rank for load in loads} == {None}
    padded = list(map(padding_row, paddings))
    assert [(row.batch_size, row.routing) for row in padded] == [
        (tokens, name) for tokens in (1, 64) for name in ("uniform", recording.routing)
    ]
    assert padding_words(padded[0])["BLOCK_SIZE_M=64"] == round(padded[0].factors["64"], 2)
    assert stats_picture(loads, paddings).png().startswith(b"\x89PNG")


def test_ranks_that_do_not_divide_the_experts(recording: RoutingTrace) -> None:
    with pytest.raises(UsageError, match="--ep-size 3 does not divide 8"):
        routing_stats(recording, EXPERTS, TOP_K, 3, [1])


def test_instances_of_a_recording_differ(recording: RoutingTrace) -> None:
    routing_stats(recording, EXPERTS, TOP_K, 1, [1])
    problem = Problem(EXPERTS, TOP_K, 16, 16, 64, routing=recording.routing)
    rows = {tuple(routed_rows(problem, instance, 0).per_expert) for instance in range(10)}
    assert len(rows) > 5
