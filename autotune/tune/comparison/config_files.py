"""Engine files against each other: measured interleaved, compared routing by routing."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum

from autotune.spec.config import AnyConfig
from autotune.spec.problem import Problem
from autotune.studies.selection.finalists import EVEN, Finalist, is_settled
from autotune.studies.selection.paired_ratio import Ratio, ratio
from autotune.tune.finals import MIN_ROUNDS, add_round
from autotune.tune.processes.child import Child
from autotune.tune.processes.dispatch import measure_interleaved_in


class FileVerdict(str, Enum):
    """The verdict that a ratio's interval allows."""

    FASTER = "faster"
    SLOWER = "slower"
    EVEN = "even"
    """The same to a user, with certainty."""
    UNCLEAR = "within the noise"
    SAME = "same config"

    @classmethod
    def of(cls, found: Ratio) -> FileVerdict:
        """Return the verdict on a file whose time over the baseline's is ``found``."""
        if found.low > 1 - EVEN and found.high < 1 + EVEN:
            return cls.EVEN
        if found.high < 1:
            return cls.FASTER
        return cls.SLOWER if found.low > 1 else cls.UNCLEAR


@dataclass(frozen=True, slots=True)
class FileTime:
    """The time of a file's config for a batch size, and how it compares with the first file's."""

    source: str
    key: int
    """The file's token count that is nearest."""
    config: AnyConfig
    geomean_us: float | None = None
    reason: str = ""
    """Why it could not be measured."""
    ratio: Ratio | None = None
    """Its time over that of the first file; None for the first, for the same config, and where
    either is missing."""
    verdict: FileVerdict | None = None


@dataclass(frozen=True, slots=True)
class FilesAtSize:
    """All files at one batch size, the first file first."""

    tokens: int
    entries: tuple[FileTime, ...]
    winner: str | None
    """The file whose config is faster than every other one by more than the noise."""


def side_by_side(
    problem: Problem, given: Sequence[FileTime], child: Child, *, timeout_s: float, rounds: int
) -> FilesAtSize:
    """Measure each distinct config of ``given``, which has no times yet, interleaved, in a new
    order each round, until the order is clear or after ``rounds``: 1 where measuring again gives
    the same again."""
    samples: dict[AnyConfig, list[float]] = {entry.config: [] for entry in given}
    reasons: dict[AnyConfig, str] = {}
    order = random.Random(problem.name)
    for number in range(rounds):
        shuffled = order.sample(list(samples), len(samples))
        results = measure_interleaved_in(child, timeout_s, problem, shuffled)
        for config, result in add_round(samples, shuffled, results).items():
            reasons[config] = f"{result.outcome.value}: {result.reason}"
        if number + 1 >= MIN_ROUNDS and _is_clear(samples):
            break
    finalists = {config: Finalist(config, tuple(us)) for config, us in samples.items()}
    entries = tuple(_entries(given, finalists, reasons))
    return FilesAtSize(problem.tokens, entries, _winner(given, list(finalists.values())))


def _is_clear(samples: Mapping[AnyConfig, Sequence[float]]) -> bool:
    finalists = [Finalist(config, tuple(us)) for config, us in samples.items()]
    return len(finalists) < 2 or is_settled(finalists)


def _winner(given: Sequence[FileTime], finalists: Sequence[Finalist]) -> str | None:
    best = min(finalists, key=lambda finalist: finalist.geomean_us, default=None)
    others = [finalist for finalist in finalists if finalist is not best]
    if best is None or not others:
        return None
    ratios = [_ratio(best, other) for other in others]
    is_clear = all(found and FileVerdict.of(found) is FileVerdict.FASTER for found in ratios)
    return next(g.source for g in given if g.config == best.config) if is_clear else None


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
            ratio=found,
            verdict=FileVerdict.SAME if same else FileVerdict.of(found) if found else None,
        )
