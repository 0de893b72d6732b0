"""How unevenly a recording loads the experts of each layer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from autotune.routing.trace import RoutingTrace


@dataclass(frozen=True, slots=True, eq=False)
class ExpertLoad:
    """Of one layer, over all recorded tokens."""

    layer: int
    tokens: int
    rows: NDArray[np.int64]
    """[experts] how many tokens visited each routed expert."""

    @property
    def busiest(self) -> float:
        """Rows of the busiest expert over the mean."""
        return float(self.rows.max() / self.rows.mean())

    @property
    def idle(self) -> int:
        """Experts that no token visited."""
        return int(np.count_nonzero(self.rows == 0))

    @property
    def entropy(self) -> float:
        """Of a token's expert, as a share of log E: 1 is perfectly even, 0 is one expert."""
        if len(self.rows) == 1:
            return 1.0
        shares = self.rows[self.rows > 0] / self.rows.sum()
        return float(-(shares * np.log(shares)).sum() / np.log(len(self.rows)))

    def slowest_rank(self, ep_size: int) -> tuple[int, float]:
        """The expert-parallel rank with the most rows, and its rows over the mean."""
        ranks = self.rows.reshape(ep_size, -1).sum(axis=1)
        slowest = int(np.argmax(ranks))
        return slowest, float(ranks[slowest] / ranks.mean())


def expert_loads(recording: RoutingTrace, experts: int, top_k: int) -> list[ExpertLoad]:
    """One for each layer, in order. Raises UsageError where the recording does not fit."""
    recording.check(experts, top_k)
    return [
        ExpertLoad(
            layer, len(rows.ids), np.bincount(rows.ids[:, :top_k].ravel(), minlength=experts)
        )
        for layer, rows in sorted(recording.layers.items())
    ]
