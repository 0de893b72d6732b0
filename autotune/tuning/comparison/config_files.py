"""Engine files against each other, and against what an engine launches by itself: measured
interleaved, compared routing by routing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from statistics import geometric_mean

from autotune.spec.config import AnyConfig
from autotune.spec.problem import Problem
from autotune.studies.selection.finalists import EVEN, Finalist
from autotune.studies.selection.paired_ratio import Ratio, ratio
from autotune.tuning.finals import measure_rounds
from autotune.tuning.processes.child import Child


class FileVerdict(StrEnum):
    """The verdict that a ratio's interval allows."""

    FASTER = "faster"
    SLOWER = "slower"
    EVEN = "even"
    """The same to a user, with certainty."""
    UNCLEAR = "within the noise"
    MODEL = "within the model's error"
    """Estimates that are closer to each other than the model is to measured times."""
    SAME = "same config"

    @classmethod
    def of(cls, found: Ratio) -> FileVerdict:
        """Return the verdict on a file whose time over the baseline's is ``found``."""
        if found.low > 1 - EVEN and found.high < 1 + EVEN:
            return cls.EVEN
        if found.high < 1:
            return cls.FASTER
        return cls.SLOWER if found.low > 1 else cls.UNCLEAR

    @classmethod
    def of_estimates(cls, ratio: float, margin: float) -> FileVerdict:
        """Return the verdict on modelled times, by the gain that is believed (``margin_of``)."""
        if ratio * (1 + margin) < 1:
            return cls.FASTER
        return cls.SLOWER if ratio > 1 + margin else cls.MODEL


@dataclass(frozen=True, slots=True)
class FileTime:
    """The time of a file's config for a batch size, and how it compares with the baseline's: what
    the engine launches by itself, where that is measured too, else the first file."""

    source: str
    key: int | None
    """The file's token count that is nearest; None for what an engine launches by itself."""
    config: AnyConfig
    geomean_us: float | None = None
    reason: str = ""
    """Why it could not be measured."""
    ratio: float | None = None
    """Its time over the baseline's; None for the baseline, for the same config, and where either
    is missing."""
    interval: tuple[float, float] | None = None
    """The ratio's 95 % confidence interval; None for estimates, too."""
    verdict: FileVerdict | None = None


@dataclass(frozen=True, slots=True)
class FilesAtSize:
    """All files at one batch size, the baseline first."""

    tokens: int
    entries: tuple[FileTime, ...]
    winner: str | None
    """The source whose config is faster than every other one by more than the noise."""


@dataclass(frozen=True, slots=True)
class FileTotal:
    """How a file compares with the baseline over the batch sizes where both were measured."""

    source: str
    wins: int
    verdicts: Mapping[str, int]
    """Verdict → batch sizes."""
    mean: float | None
    """Geometric mean of its times over the baseline's, 1 where both say the same; None where
    nothing is known."""
    mean_apart: float | None
    """The same over the batch sizes where they differ."""
    most: float | None
    """The largest of them: its least gain, or its greatest loss."""


def totals(sizes: Sequence[FilesAtSize]) -> list[FileTotal]:
    """Return the total of each source, in the order of entries."""
    return [_total(sizes, column) for column in zip(*(s.entries for s in sizes), strict=True)]


def _total(sizes: Sequence[FilesAtSize], entries: Sequence[FileTime]) -> FileTotal:
    source = entries[0].source
    apart = [entry.ratio for entry in entries if entry.ratio is not None]
    same = [1.0 for entry in entries if entry.verdict is FileVerdict.SAME and entry.geomean_us]
    ratios = apart + same
    return FileTotal(
        source,
        wins=sum(size.winner == source for size in sizes),
        verdicts=Counter(entry.verdict.value for entry in entries if entry.verdict),
        mean=geometric_mean(ratios) if ratios else None,
        mean_apart=geometric_mean(apart) if apart else None,
        most=max(ratios, default=None),
    )


def side_by_side(
    problem: Problem,
    given: Sequence[FileTime],
    child: Child,
    *,
    timeout_s: float,
    rounds: int,
    margin: float | None = None,
) -> FilesAtSize:
    """Measure each distinct config of ``given``, which has no times yet, interleaved, in a new
    order each round, until the order is clear or after ``rounds``: 1 where measuring again gives
    the same again. ``margin`` is that of estimates: then no noise, but the model's error counts."""
    configs = dict.fromkeys(entry.config for entry in given)
    finalists, failed = measure_rounds(
        child, problem, configs, timeout_s=timeout_s, seed=problem.name, rounds=rounds
    )
    reasons = {config: f"{one.outcome.value}: {one.reason}" for config, one in failed.items()}
    measured = {finalist.config: finalist for finalist in finalists}
    entries = tuple(_entries(given, measured, reasons, margin))
    return FilesAtSize(problem.tokens, entries, _winner(given, finalists, margin))


def _winner(
    given: Sequence[FileTime], finalists: Sequence[Finalist], margin: float | None
) -> str | None:
    best = min(finalists, key=lambda finalist: finalist.geomean_us, default=None)
    others = [finalist for finalist in finalists if finalist is not best]
    if best is None or not others:
        return None
    ratios = [_ratio(best, other) for other in others]
    is_clear = all(found and _verdict(found, margin) is FileVerdict.FASTER for found in ratios)
    return next(g.source for g in given if g.config == best.config) if is_clear else None


def _verdict(found: Ratio, margin: float | None) -> FileVerdict:
    if margin is None:
        return FileVerdict.of(found)
    return FileVerdict.of_estimates(found.middle, margin)


def _ratio(own: Finalist, baseline: Finalist) -> Ratio | None:
    """Return None where there are too few samples to tell."""
    try:
        return ratio(own.samples_us, baseline.samples_us)
    except ValueError:
        return None


def _entries(
    given: Sequence[FileTime],
    measured: Mapping[AnyConfig, Finalist],
    reasons: Mapping[AnyConfig, str],
    margin: float | None,
) -> Iterator[FileTime]:
    first = measured.get(given[0].config)
    for position, entry in enumerate(given):
        own = measured.get(entry.config)
        found = _ratio(own, first) if position and own and first and own is not first else None
        same = position > 0 and entry.config == given[0].config
        yield replace(
            entry,
            geomean_us=own.geomean_us if own else None,
            reason=reasons.get(entry.config, ""),
            ratio=found.middle if found else None,
            interval=(found.low, found.high) if found and margin is None else None,
            verdict=FileVerdict.SAME if same else _verdict(found, margin) if found else None,
        )
