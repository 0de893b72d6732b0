"""Which config is wanted most where several routings are tuned for at once."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Protocol, TypeVar

from autotune.kernels.config import AnyConfig
from autotune.kernels.measurement import routing_us


class Robust(str, Enum):
    """What of a config counts over routings. Under one routing both are the same."""

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
    def mean_us(self) -> float: ...


Config = TypeVar("Config", bound=Timed)


def ranked(timed: Sequence[Config], routings: int, robust: Robust) -> list[Config]:
    """The most wanted first."""
    if robust is Robust.MEAN:
        return sorted(timed, key=lambda one: one.mean_us)
    losses = worst_losses(timed, routings)
    order = sorted(range(len(timed)), key=lambda i: (losses[i], timed[i].mean_us))
    return [timed[i] for i in order]


def worst_losses(timed: Sequence[Timed], routings: int) -> list[float]:
    """The largest ratio, over the routings, of a config's time to the best one's among all."""
    times = [routing_us(one.samples_us, routings) for one in timed]
    best = best_by_routing(times)
    return [max(us / least for us, least in zip(own, best, strict=True)) for own in times]


def best_by_routing(times: Sequence[Sequence[float]]) -> list[float]:
    """The least time under each routing."""
    return [min(column) for column in zip(*times, strict=True)]


def needed_to_judge(timed: Sequence[Config], routings: int, count: int) -> list[Config]:
    """The ``count`` with the least worst loss, and the best config of each routing, by which the
    losses are counted."""
    times = [routing_us(one.samples_us, routings) for one in timed]
    rulers = [min(range(len(timed)), key=lambda i: times[i][r]) for r in range(routings)]
    least = ranked(timed, routings, Robust.WORST)[:count]
    return list(dict.fromkeys([*least, *(timed[i] for i in rulers)]))
