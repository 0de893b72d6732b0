"""The abilities that a run loop uses of a sampler beyond Optuna's interface."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from optuna.study import Study


@runtime_checkable
class BatchSampler(Protocol):
    """An Optuna sampler that proposes several configs at once and knows what more would bring.

    The run loop asks ``isinstance``; of any other sampler it takes one config at a time, has none
    compiled before it is asked for, and never ends a study early.
    """

    def propose(self, study: Study, count: int) -> list[dict[str, Any]]:
        """Return at most ``count`` distinct parameter sets to try at the same time, best first;
        none of them is created."""

    def likely(self, study: Study, count: int) -> list[dict[str, Any]]:
        """Return at most ``count`` parameter sets that may be proposed soon, likeliest first."""

    def expected_gain(self, study: Study) -> float:
        """Return the share of the best time that the next trial is expected to save; infinity
        where too little is known."""
