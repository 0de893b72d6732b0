"""Which config of a study may be written: never one that loses to what the user has."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from autotune.kernels.config import AnyConfig
from autotune.kernels.measurement import typical_us
from autotune.studies.ratio import ratio
from autotune.studies.record import Measured
from autotune.studies.robust import Robust, ranked


@dataclass(frozen=True, slots=True)
class Winner:
    """The config to write, its time, and how it compares with the fastest incumbent."""

    config: AnyConfig
    mean_us: float
    incumbent_us: float | None
    is_incumbent: bool
    """True where nothing beat the incumbent by more than the noise, and it stays."""
    speedup_interval: tuple[float, float] | None = None
    """95 % confidence interval of ``speedup``, where finalists were measured again."""

    @property
    def speedup(self) -> float | None:
        """Incumbent's time over ours; None where the incumbent could not be measured."""
        return self.incumbent_us / self.mean_us if self.incumbent_us else None


def choose_winner(
    entries: Sequence[Measured],
    incumbents: Iterable[AnyConfig],
    routings: int = 1,
    robust: Robust = Robust.MEAN,
) -> Winner | None:
    """The most wanted complete entry if it beats every incumbent by more than the noise, else the
    fastest incumbent. Where the worst loss counts: the most wanted of those that beat them so.
    ``routings`` as of a ``Measurement``.

    Incumbents that were not measured (they cannot run here) do not count. None where nothing
    was measured completely.
    """
    complete = [entry for entry in entries if entry.complete]
    if not complete:
        return None
    wanted = ranked(complete, routings, robust)
    known = set(incumbents)
    rivals = [entry for entry in complete if entry.config in known]
    rival = min(rivals, key=lambda entry: entry.mean_us, default=None)
    if rival is None:
        return Winner(wanted[0].config, wanted[0].mean_us, None, is_incumbent=False)
    for entry in wanted if robust is Robust.WORST else wanted[:1]:
        if entry.config == rival.config:
            break
        if beats(entry.samples_us, rival.samples_us, routings):
            return Winner(entry.config, entry.mean_us, rival.mean_us, is_incumbent=False)
    return Winner(rival.config, rival.mean_us, rival.mean_us, is_incumbent=True)


def beats(samples: Sequence[float], rival: Sequence[float], routings: int = 1) -> bool:
    """True where ``samples`` are faster than ``rival`` by more than the noise of their ratios, or
    where there is but one: what has no noise to speak of is measured once.

    Both hold one sample per routing instance, in the same order.
    """
    if min(len(samples), len(rival)) < 2 * routings:
        return typical_us(samples, routings) < typical_us(rival, routings)
    return ratio(samples, rival, routings).high < 1
