"""Rows that each expert computes, and the blocks that padding to BLOCK_SIZE_M makes of them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from autotune.routing.draw import topk_ids
from autotune.spec.arrays import Floats
from autotune.spec.problem import Problem


@dataclass(frozen=True, slots=True, eq=False)
class RoutedRows:
    """One routing instance, seen from this rank."""

    per_expert: NDArray[np.int64]
    """[E] (token, expert) pairs of each local expert."""
    tokens: int
    """Distinct tokens with at least one local expert."""

    @property
    def total(self) -> int:
        return int(self.per_expert.sum())

    @property
    def active_experts(self) -> int:
        """Experts with at least one row: those whose weights must be read."""
        return int(np.count_nonzero(self.per_expert))

    def blocks(self, block_m: Floats) -> Floats:
        """M-blocks of each BLOCK_SIZE_M: every expert's rows rounded up, added."""
        sizes, position = np.unique(block_m.astype(np.int64), return_inverse=True)
        counts = np.array([np.sum(-(-self.per_expert // size)) for size in sizes], dtype=float)
        return counts[position]


@lru_cache(maxsize=256)
def routed_rows(problem: Problem, instance: int, seed: int) -> RoutedRows:
    """Routing instance ``instance`` of the problem, drawn as the kernels' inputs are."""
    ids = topk_ids(problem, instance, seed)
    is_local = ids >= 0
    return RoutedRows(
        per_expert=np.bincount(ids[is_local], minlength=problem.experts),
        tokens=int(np.count_nonzero(is_local.any(axis=1))),
    )
