"""Batch sizes to tune for the steps that a server ran: few, and near to where its time goes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from autotune.engines.entries import nearest

NEAR = 1.5
"""Ratio of a step's tokens to its key's that is still near: between the engines' own 18 keys there
is none farther (384 of 256)."""
_AS_GOOD = 0.03
"""Octaves by which the mean step may be farther from its key where that saves a key."""
_BIN = 1.02
"""Token counts that differ by less are candidates together, as the one with the most time."""
_FAR = 1e6
"""Octaves that a step costs where it is not near its key: of two minutes' traffic one step of 5 ms
outweighs all that is near."""
_Array = NDArray[np.float64]


def chosen_sizes(seconds: Mapping[int, float], most: int) -> tuple[int, ...]:
    """Return at most so many batch sizes, ascending, among the token counts of ``seconds``.

    An engine takes the key with the smallest distance to a step's tokens, the smaller of two. So
    chosen, as little time as can be is spent in steps farther than ``NEAR`` from their key, and
    then the mean distance in octaves, weighted by seconds, is the least, or nearly so with fewer.
    """
    near = _Distances(seconds)
    keys = _candidates(seconds)
    between, count = near.between(keys), len(keys)
    costs, steps = near.below(keys), []
    totals = [float(np.min(costs + near.above(keys)))]
    ends = [int(np.argmin(costs + near.above(keys)))]
    for _ in range(1, min(most, count)):
        sums = costs[:, None] + between
        steps.append(np.argmin(sums, axis=0))
        costs = np.min(sums, axis=0)
        totals.append(float(np.min(costs + near.above(keys))))
        ends.append(int(np.argmin(costs + near.above(keys))))
    used = next(k for k, total in enumerate(totals) if total <= min(totals) + _AS_GOOD)
    chosen = [ends[used]]
    for before in reversed(steps[:used]):
        chosen.append(int(before[chosen[-1]]))
    return tuple(sorted(int(keys[index]) for index in chosen))


def shares(seconds: Mapping[int, float], sizes: Sequence[int]) -> tuple[float, ...]:
    """Return the share of the time that is of steps whose nearest key is each size."""
    of_size = dict.fromkeys(sizes, 0.0)
    for tokens, time_s in seconds.items():
        of_size[nearest(sizes, tokens)] += time_s
    total = sum(seconds.values())
    return tuple(round(of_size[size] / total, 4) for size in sizes)


def _candidates(seconds: Mapping[int, float]) -> _Array:
    bins: dict[int, int] = {}
    for tokens in sorted(seconds):
        place = int(np.log(tokens) / np.log(_BIN))
        if place not in bins or seconds[tokens] > seconds[bins[place]]:
            bins[place] = tokens
    return np.array(sorted(bins.values()), dtype=float)


class _Distances:
    """Sums over the token counts between two keys, each from sums over all that are smaller."""

    def __init__(self, seconds: Mapping[int, float]) -> None:
        self._tokens = np.array(sorted(seconds), dtype=float)
        weights = np.array([seconds[int(tokens)] for tokens in self._tokens])
        self._weight = _sums(weights / weights.sum())
        self._logs = _sums(weights / weights.sum() * np.log2(self._tokens))

    def between(self, keys: _Array) -> _Array:
        """[keys, keys]: the cost of what is between a key and a larger one; inf for no larger."""
        middle = (keys[:, None] + keys[None, :]) / 2
        costs = self._of(keys[:, None], middle, keys[:, None]) + self._of(
            middle, keys[None, :], keys[None, :]
        )
        return np.where(keys[:, None] < keys[None, :], costs, np.inf)

    def below(self, keys: _Array) -> _Array:
        """[keys]: the cost of all that is below the smallest key."""
        return self._of(np.zeros_like(keys), keys, keys)

    def above(self, keys: _Array) -> _Array:
        """[keys]: the cost of all that is above the largest key."""
        return self._of(keys, np.full_like(keys, np.inf), keys)

    def _of(self, least: _Array, most: _Array, key: _Array) -> _Array:
        """Of token counts above ``least`` up to ``most``, which lie on one side of their key."""
        first, last = self._place(least), self._place(most)
        weight = self._weight[last] - self._weight[first]
        logs = self._logs[last] - self._logs[first]
        near_from = np.clip(self._place(key / NEAR, side="left"), first, last)
        near_to = np.clip(self._place(key * NEAR), first, last)
        near = self._weight[near_to] - self._weight[near_from]
        far = np.maximum(weight - near, 0)
        return np.abs(logs - weight * np.log2(key)) + _FAR * far

    def _place(self, values: _Array, side: str = "right") -> NDArray[np.int64]:
        return np.searchsorted(self._tokens, values, side=side)  # type: ignore[call-overload, no-any-return]


def _sums(values: _Array) -> _Array:
    return np.concatenate([[0.0], np.cumsum(values)])
