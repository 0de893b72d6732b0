"""The order of configs where several routings are tuned for at once."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Protocol, TypeVar

from autotune.spec.config import AnyConfig
from autotune.spec.measurement import routing_us


class Robust(str, Enum):
    """The loss over routings that counts. Under one routing both are the same."""

    MEAN = "mean"
    """The mean relative loss: the geometric mean of its times."""
    WORST = "worst"
    """The largest relative loss: under each routing over the best config of that routing."""


class Timed(Protocol):
    """A config with its samples; sample i is of routing i modulo how many there are."""

    @property
    def config(self) -> AnyConfig: ...
    @property
    def samples_us(self) -> tuple[float, ...]: ...
    @property
    def geomean_us(self) -> float: ...


Candidate = TypeVar("Candidate", bound=Timed)


def ranked(timed: Sequence[Candidate], routings: int, robust: Robust) -> list[Candidate]:
    """Return the most wanted first. Where the worst loss counts, without those that were not
    measured under every routing."""
    if robust is Robust.MEAN:
        return sorted(timed, key=lambda one: one.geomean_us)
    whole = _whole(timed, routings)
    losses = worst_losses(whole, routings)
    order = sorted(range(len(whole)), key=lambda i: (losses[i], whole[i].geomean_us))
    return [whole[i] for i in order]


def worst_losses(timed: Sequence[Timed], routings: int) -> list[float]:
    """Return the largest ratio, over the routings, of each config's time to the best one's among
    all. Each must have been measured under every routing."""
    times = [routing_us(one.samples_us, routings) for one in timed]
    best = [min(column) for column in zip(*times, strict=True)]
    return [max(us / least for us, least in zip(own, best, strict=True)) for own in times]


def needed_to_judge(timed: Sequence[Candidate], routings: int, count: int) -> list[Candidate]:
    """Return the ``count`` with the least worst loss, and the best config of each routing, by which
    the losses are counted."""
    whole = _whole(timed, routings)
    if not whole:
        return []
    times = [routing_us(one.samples_us, routings) for one in whole]
    rulers = [min(range(len(whole)), key=lambda i: times[i][r]) for r in range(routings)]
    least = ranked(whole, routings, Robust.WORST)[:count]
    return list(dict.fromkeys([*least, *(whole[i] for i in rulers)]))


def _whole(timed: Sequence[Candidate], routings: int) -> list[Candidate]:
    return [one for one in timed if len(one.samples_us) >= routings]
