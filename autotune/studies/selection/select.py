"""Select the config of a study that may be written: never one that loses to what the user has.

Where several routings are tuned for at once, configs are ordered by their mean or worst loss.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, TypeVar

from autotune.spec.config import AnyConfig
from autotune.spec.measurement import routing_us, typical_us
from autotune.studies.selection.paired_ratio import ratio


class Robust(StrEnum):
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


@dataclass(frozen=True, slots=True)
class Winner:
    """The config to write, its time, and how it compares with its baseline: the fastest incumbent,
    or where the worst loss counts the default."""

    config: AnyConfig
    geomean_us: float
    incumbent_us: float | None
    is_incumbent: bool
    """True where nothing beat the incumbent by more than the noise, and it stays."""
    speedup_interval: tuple[float, float] | None = None
    """95 % confidence interval of ``speedup``, where finalists were measured again."""

    @property
    def speedup(self) -> float | None:
        """Incumbent's time over ours; None where the incumbent could not be measured."""
        return self.incumbent_us / self.geomean_us if self.incumbent_us else None


def select_winner(
    timed: Sequence[Timed],
    incumbents: Collection[AnyConfig],
    routings: int = 1,
    *,
    robust: Robust = Robust.MEAN,
    default: AnyConfig | None = None,
    with_interval: bool = False,
    margin: float = 0.0,
) -> Winner | None:
    """Return the fastest config if it beats the fastest incumbent by more than the noise, else that
    incumbent; where the worst loss counts, the one with the least that beats ``default``.

    ``timed`` are complete measurements, of trials or of finalists; incumbents that are not among
    them (they cannot run here) do not count. None where there are none. ``with_interval`` says
    that the samples are enough for the speed-up's confidence interval; ``margin`` is that of
    ``beats``.
    """
    if robust is Robust.WORST:
        baseline = next((one for one in timed if one.config == default), None)
        best = _least_loss(timed, incumbents, routings, baseline, margin)
    else:
        known = [one for one in timed if one.config in incumbents]
        baseline = min(known, key=_geomean_us, default=None)
        best = min(timed, key=_geomean_us, default=None)
        if best and baseline and not beats(best, baseline, routings, margin):
            best = baseline
    if best is None:
        return None
    interval = None
    if with_interval and baseline and best is not baseline:
        found = ratio(best.samples_us, baseline.samples_us, routings)
        interval = 1 / found.high, 1 / found.low
    us = baseline.geomean_us if baseline else None
    return Winner(best.config, best.geomean_us, us, best.config in incumbents, interval)


def beats(one: Timed, other: Timed, routings: int = 1, margin: float = 0.0) -> bool:
    """True where ``one`` is faster than ``other`` by more than the noise of their ratios, or where
    there is but one sample of a routing: what has no noise to speak of is measured once.

    Both hold one sample per routing instance, in the same order. Faster is by more than the factor
    1 + ``margin``: times that are not measured err alike in every sample.
    """
    samples, others = one.samples_us, other.samples_us
    if min(len(samples), len(others)) < 2 * routings:
        return typical_us(samples, routings) * (1 + margin) < typical_us(others, routings)
    return ratio(samples, others, routings).high * (1 + margin) < 1


def _least_loss(
    timed: Sequence[Timed],
    incumbents: Collection[AnyConfig],
    routings: int,
    default: Timed | None,
    margin: float,
) -> Timed | None:
    """Return the one with the least worst loss that is faster than the engine's default in the
    mean, or is an incumbent itself and not slower; else the default."""
    for one in ranked(timed, routings, Robust.WORST):
        if default is None or one is default or beats(one, default, routings, margin):
            return one
        if one.config in incumbents and not beats(default, one, routings):
            return one
    return default


def _geomean_us(one: Timed) -> float:
    return one.geomean_us
