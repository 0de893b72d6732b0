"""Which experts each token visits: seeded, so that every config meets the same instances.

Under expert parallelism tokens are routed over all ranks' experts and only this rank's are
kept, as in serving; the rest are -1 and dropped at alignment.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from autotune.errors import UsageError
from autotune.kernels.problem import Problem

RANK_INSTANCES = 10
"""As many as are measured: of 8 ranks at 64 tokens the most loaded has about a tenth more rows
than the mean over them."""

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
    """Instance ``instance`` of the problem's routing distribution.

    ``uniform``: the top-k of softmaxed normal gates, without repeats, as the engines' scripts
    draw them. ``zipf:A``: the r-th most popular expert is drawn with probability ∝ r^-A, the
    order of popularity being another one in each instance. Fused shared experts, the last ids,
    are visited by every token with weight 1. Raises UsageError for an unknown distribution.
    """
    rng = np.random.default_rng((seed, instance))
    shared = problem.fused_shared_experts
    local_experts = problem.experts - shared
    gates = _gates(problem, rng, local_experts * problem.ep_size)
    ids, weights = _top(gates, problem.top_k - shared)
    ids = _local(ids, local_experts, problem.ep_rank)
    every = np.tile(np.arange(local_experts, problem.experts), (problem.tokens, 1))
    return Routing(
        ids=np.ascontiguousarray(np.hstack((ids, every)), dtype=np.int32),
        weights=np.hstack((weights, np.ones(every.shape))).astype(np.float32),
    )


@lru_cache(maxsize=64)
def most_loaded_rank(problem: Problem, instances: int = RANK_INSTANCES, seed: int = 0) -> int:
    """The expert-parallel rank with the most rows over the first routing instances: the others
    wait for it. ``problem.ep_rank`` does not matter."""
    local_experts = problem.experts - problem.fused_shared_experts
    rows = np.zeros(problem.ep_size, dtype=np.int64)
    whole = replace(
        problem,
        experts=local_experts * problem.ep_size,
        top_k=problem.top_k - problem.fused_shared_experts,
        fused_shared_experts=0,
        ep_size=1,
        ep_rank=0,
    )
    for instance in range(instances):
        ranks = topk_ids(whole, instance, seed) // local_experts
        rows += np.bincount(ranks.ravel(), minlength=problem.ep_size)
    return int(np.argmax(rows))


def _gates(problem: Problem, rng: np.random.Generator, experts: int) -> NDArray[np.float64]:
    """[M, experts] log-scores; the top-k of a row are its experts."""
    name, _, exponent = problem.routing.partition(":")
    if name == "uniform" and not exponent:
        return rng.standard_normal((problem.tokens, experts))
    if name == "zipf":
        popularity = -_exponent(exponent, problem.routing) * np.log(np.arange(1, experts + 1))
        # Top-k of log-probabilities with Gumbel noise is a draw without replacement.
        return rng.permutation(popularity) + rng.gumbel(size=(problem.tokens, experts))
    raise UsageError(
        f"unknown routing {problem.routing!r}; allowed are 'uniform' and 'zipf:A' with a number "
        "A of 0 or more, for example zipf:1.2"
    )


def _exponent(text: str, routing: str) -> float:
    try:
        exponent = float(text)
    except ValueError:
        exponent = -1.0
    if not 0 <= exponent < np.inf:
        raise UsageError(f"routing {routing!r}: write zipf:A with a number A of 0 or more")
    return exponent


def _top(gates: NDArray[np.float64], k: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
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


def _local(ids: NDArray[np.int64], local_experts: int, rank: int) -> NDArray[np.int64]:
    """Global ids → this rank's, -1 for the other ranks'."""
    local = ids - rank * local_experts
    return np.where((local >= 0) & (local < local_experts), local, -1)
