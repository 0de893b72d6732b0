"""Which config of a study may be written: never one that loses to what the user has."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from autotune.spec.config import AnyConfig
from autotune.spec.measurement import typical_us
from autotune.studies.selection.paired_ratio import ratio
from autotune.studies.selection.robust import chosen
from autotune.studies.trial_record import Measured


@dataclass(frozen=True, slots=True)
class Winner:
    """The config to write, its time, and how it compares with the fastest incumbent."""

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


def choose_winner(
    entries: Sequence[Measured], incumbents: Iterable[AnyConfig], routings: int = 1
) -> Winner | None:
    """The fastest complete entry if it beats every incumbent by more than the noise, else the
    fastest incumbent. ``routings`` as of a ``Measurement``.

    Incumbents that were not measured (they cannot run here) do not count. None where nothing
    was measured completely.
    """
    complete = [entry for entry in entries if entry.complete]
    if not complete:
        return None
    best = min(complete, key=lambda entry: entry.geomean_us)
    known = set(incumbents)
    rivals = [entry for entry in complete if entry.config in known]
    rival = min(rivals, key=lambda entry: entry.geomean_us, default=None)
    if rival is None:
        return Winner(best.config, best.geomean_us, None, is_incumbent=False)
    if best.config == rival.config or not beats(best.samples_us, rival.samples_us, routings):
        return Winner(rival.config, rival.geomean_us, rival.geomean_us, is_incumbent=True)
    return Winner(best.config, best.geomean_us, rival.geomean_us, is_incumbent=False)


def choose_robust_winner(
    entries: Sequence[Measured],
    incumbents: Collection[AnyConfig],
    routings: int,
    default: AnyConfig | None,
) -> Winner | None:
    """Where the worst loss counts; see ``robust.chosen``. The speed-up is over the default."""
    complete = [entry for entry in entries if entry.complete]
    rival = next((entry for entry in complete if entry.config == default), None)

    def is_faster(one: Measured, other: Measured) -> bool:
        return beats(one.samples_us, other.samples_us, routings)

    best = chosen(complete, incumbents, routings, is_faster, rival)
    if best is None:
        return None
    us = rival.geomean_us if rival else None
    return Winner(best.config, best.geomean_us, us, is_incumbent=best.config in incumbents)


def beats(samples: Sequence[float], rival: Sequence[float], routings: int = 1) -> bool:
    """True where ``samples`` are faster than ``rival`` by more than the noise of their ratios, or
    where there is but one: what has no noise to speak of is measured once.

    Both hold one sample per routing instance, in the same order.
    """
    if min(len(samples), len(rival)) < 2 * routings:
        return typical_us(samples, routings) < typical_us(rival, routings)
    return ratio(samples, rival, routings).high < 1
