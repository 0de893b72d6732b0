"""Draws of the experts that each token visits: seeded, so every config meets the same instances.

A problem names one routing (see ``distributions`` and ``trace``), or several with commas
between them: instance i is then of routing i modulo their number. Under expert parallelism tokens
are routed over all ranks' experts and only this rank's are kept, as in serving; the rest are -1
and dropped at alignment.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from autotune.routing.distributions import Size, gates
from autotune.routing.trace import RECORDED, is_known, known_trace
from autotune.spec.arrays import Floats
from autotune.spec.problem import Problem

RANK_INSTANCES = 10
"""Instances that the load of a rank is counted over, as many as are measured: of 8 ranks at 64
tokens the most loaded has about a tenth more rows than the mean over them."""

Ids = NDArray[np.int32]
Weights = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Routing:
    """One routing instance of a problem."""

    ids: Ids
    """[M, top_k] local expert of each slot, -1 where another rank computes it."""
    weights: Weights
    """[M, top_k] routing weights; the routed ones of a token sum to 1."""


def topk_ids(problem: Problem, instance: int, seed: int = 0) -> Ids:
    """[M, top_k] int32: the ids of ``route``."""
    return route(problem, instance, seed).ids


def route(problem: Problem, instance: int, seed: int = 0) -> Routing:
    """Instance ``instance`` of the problem's routing, or of its routings in turn.

    Fused shared experts, the last ids, are visited by every token with weight 1. Raises
    UsageError for an unknown routing, and for a recording that is not at hand or does not fit.
    """
    shared = problem.fused_shared_experts
    local_experts = problem.experts - shared
    ids, weights = _routed(problem, instance, seed)
    local = ids - problem.ep_rank * local_experts
    ids = np.where((local >= 0) & (local < local_experts), local, -1)
    every = np.tile(np.arange(local_experts, problem.experts), (problem.tokens, 1))
    return Routing(
        ids=np.ascontiguousarray(np.hstack((ids, every)), dtype=np.int32),
        weights=np.hstack((weights, np.ones(every.shape))).astype(np.float32),
    )


def instances_of(problem: Problem, at_least: int) -> int:
    """Return the number of instances of a measurement, the same for each of its routings."""
    count = len(problem.routings)
    return -(-at_least // count) * count


def drawable(problem: Problem) -> Problem:
    """Return the problem, with uniform in place of recordings that are not at hand."""
    routings = (
        "uniform" if routing.startswith(RECORDED) and not is_known(routing) else routing
        for routing in problem.routings
    )
    return replace(problem, routing=",".join(routings))


@lru_cache(maxsize=64)
def most_loaded_rank(problem: Problem, instances: int = RANK_INSTANCES) -> int:
    """Return the expert-parallel rank with the most rows over the first routing instances: the
    others wait for it. ``problem.ep_rank`` matters to ``worst`` alone, which loads that rank."""
    local_experts = problem.experts - problem.fused_shared_experts
    rows = np.zeros(problem.ep_size, dtype=np.int64)
    for instance in range(instances_of(problem, instances)):
        ranks = _routed(problem, instance, seed=0)[0] // local_experts
        rows += np.bincount(ranks.ravel(), minlength=problem.ep_size)
    return int(np.argmax(rows))


def _routed(problem: Problem, instance: int, seed: int) -> tuple[NDArray[np.int64], Floats]:
    """(global ids, weights) of the routed experts."""
    routings, shared = problem.routings, problem.fused_shared_experts
    turn, routing = instance // len(routings), routings[instance % len(routings)]
    size = Size(
        problem.tokens,
        (problem.experts - shared) * problem.ep_size,
        problem.top_k - shared,
        problem.ep_size,
        problem.ep_rank,
    )
    rng = np.random.default_rng((seed, turn))
    if not routing.startswith(RECORDED):
        return _top(gates(routing, rng, size), size.top_k)
    ids = known_trace(routing).draw(size, turn, seed)
    # Recordings hold no weights, and times do not depend on them.
    _, weights = _top(rng.standard_normal((size.tokens, size.top_k)), size.top_k)
    return ids.astype(np.int64), weights


def _top(gates: Floats, k: int) -> tuple[NDArray[np.int64], Floats]:
    """(ids, softmax weights) of the k largest gates of each row, best first."""
    if k == 0:
        empty = np.empty((len(gates), 0))
        return empty.astype(np.int64), empty
    some = np.argpartition(gates, -k, axis=1)[:, -k:]
    order = np.argsort(-np.take_along_axis(gates, some, axis=1), axis=1)
    ids = np.take_along_axis(some, order, axis=1)
    chosen = np.take_along_axis(gates, ids, axis=1)
    exps = np.exp(chosen - chosen[:, :1])
    return ids, exps / exps.sum(axis=1, keepdims=True)
