from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from moe_cases import problem_of
from numpy.typing import NDArray

from autotune.errors import UsageError
from autotune.routing import trace as recording_file
from autotune.routing.distributions import Size
from autotune.routing.draw import drawable, most_loaded_rank, route, topk_ids
from autotune.routing.trace import DECODE_TOKENS, LayerRows, RoutingTrace, make_known

EXPERTS = 8


def recording_of(
    layers: int = 3, rows: int = 600, sequences: int = 6, seed: int = 0
) -> RoutingTrace:
    """Row r of layer L goes to experts 2 * (r + L) and the one after it, modulo EXPERTS."""
    which = np.repeat(np.arange(sequences, dtype=np.int32), rows // sequences)
    first = (2 * np.arange(rows)[:, None] + np.array([0, 1])) % EXPERTS

    def ids(layer: int) -> NDArray[np.int32]:
        return ((first + 2 * (layer + seed)) % EXPERTS).astype(np.int32)

    return RoutingTrace({k: LayerRows(ids(k), which) for k in range(layers)}, "test")


def numbered(rows: int, sequences: int) -> RoutingTrace:
    """One layer; a row's only id is its number, so that a draw says which rows it took."""
    ids = np.arange(rows, dtype=np.int32)[:, None]
    which = (np.arange(rows) * sequences // rows).astype(np.int32)
    return RoutingTrace({0: LayerRows(ids, which)}, "test")


def test_the_digest_is_of_the_content_and_not_of_the_place() -> None:
    one = recording_of()
    assert replace(one, origin="elsewhere", notes={"model": "x"}).digest == one.digest
    assert recording_of(seed=1).digest != one.digest
    assert recording_of(layers=2).digest != one.digest
    assert recording_of(sequences=3).digest != one.digest


def test_decode_takes_rows_of_many_sequences() -> None:
    ids = numbered(rows=400, sequences=50).draw(Size(100, 500, 1), 0, 0)[:, 0]
    assert len(set(ids.tolist())) == 100
    assert sorted(np.bincount(ids // 8, minlength=50).tolist()) == [2] * 50


def test_prefill_takes_consecutive_rows() -> None:
    tokens = DECODE_TOKENS + 1
    starts = set()
    for instance in range(4):
        ids = numbered(rows=400, sequences=4).draw(Size(tokens, 500, 1), instance, 0)[:, 0]
        assert (np.diff(ids) == 1).all()
        starts.add(int(ids[0]))
    assert len(starts) > 1


@pytest.mark.parametrize("tokens", [100, 300])
def test_too_few_rows_are_repeated_evenly(tokens: int) -> None:
    counts = np.bincount(numbered(30, 3).draw(Size(tokens, 500, 1), 0, 0)[:, 0], minlength=30)
    assert counts.sum() == tokens
    assert np.ptp(counts) <= 1


def test_instances_go_through_all_layers() -> None:
    which = np.zeros(300, np.int32)
    layers = {k: LayerRows(np.full((300, 1), k, np.int32), which) for k in (1, 4, 6)}
    recording = RoutingTrace(layers, "test")
    for seed in range(3):
        drawn = [recording.draw(Size(5, 8, 1), instance, seed)[0, 0] for instance in range(6)]
        assert sorted(drawn[:3]) == [1, 4, 6]
        assert drawn[:3] == drawn[3:]


def test_a_problem_draws_from_it_and_keeps_its_rank() -> None:
    recording = recording_of()
    make_known(recording)
    whole = problem_of(experts=EXPERTS, top_k=2, tokens=40)
    whole = replace(whole, routing=recording.routing)
    ids = topk_ids(whole, 0)
    assert ids.dtype == np.int32
    assert np.array_equal(ids, topk_ids(whole, 0))
    halves = [topk_ids(replace(whole, experts=4, ep_size=2, ep_rank=rank), 0) for rank in (0, 1)]
    assert np.array_equal(np.where(halves[0] >= 0, halves[0], halves[1] + 4), ids)
    np.testing.assert_allclose(route(whole, 0).weights.sum(axis=1), 1, rtol=1e-5)


def test_the_most_loaded_rank_is_the_recordings() -> None:
    ids = np.tile(np.array([[6, 7]], np.int32), (50, 1))
    ids[::10] = [0, 1]
    recording = RoutingTrace({0: LayerRows(ids, np.zeros(50, np.int32))}, "test")
    make_known(recording)
    problem = problem_of(experts=2, top_k=2, tokens=16)
    problem = replace(problem, ep_size=4, routing=recording.routing)
    assert most_loaded_rank(problem) == 3


def test_a_fused_shared_expert_is_appended_once() -> None:
    """The engines' tool records it as a last column."""
    rows = recording_of().layers[0]
    shared = np.full((len(rows.ids), 1), EXPERTS, np.int32)
    with_shared = RoutingTrace({0: replace(rows, ids=np.hstack([rows.ids, shared]))}, "test")
    make_known(with_shared)
    problem = problem_of(experts=EXPERTS + 1, top_k=3, tokens=10)
    problem = replace(problem, fused_shared_experts=1, routing=with_shared.routing)
    ids = topk_ids(problem, 0)
    assert (ids[:, 2] == EXPERTS).all()
    assert ids[:, :2].max() < EXPERTS


@pytest.mark.parametrize(
    ("experts", "top_k", "words"),
    [
        (EXPERTS, 3, "2 experts a token; the model has top-k 3"),
        (6, 2, "names expert 7; the model has experts 0 to 5"),
        (EXPERTS, 1, "no fused shared experts"),
    ],
)
def test_a_recording_of_another_model_is_refused(experts: int, top_k: int, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        recording_of().draw(Size(10, experts, top_k), 0, 0)


def test_what_is_not_at_hand_is_drawn_uniformly_where_that_will_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(recording_file, "_known", {})
    lost = problem_of(experts=EXPERTS, top_k=2, tokens=4)
    lost = replace(lost, routing="zipf:1,recorded:0123456789ab")
    assert drawable(lost).routing == "zipf:1,uniform"
    here = recording_of()
    make_known(here)
    there = replace(lost, routing=here.routing)
    assert drawable(there) == there
