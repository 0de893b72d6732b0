"""Sibling studies: other batch sizes, shardings and models on the same device."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from autotune.spec.config import AnyConfig, Config
from autotune.spec.device import Device
from autotune.spec.problem import Problem
from autotune.studies.key import StudyKey
from autotune.studies.selection.finalists import Finalist
from autotune.studies.selection.select import Robust
from autotune.studies.trial_record import TrialRecord, best_of

FEWEST = 8
"""Measured trials from which a sibling teaches: fewer do not tell its best from its worst."""

_NEIGHBOURS = 2
"""Siblings of other batch sizes whose winners are tried."""


@dataclass(frozen=True, slots=True)
class Sibling:
    """The measured trials of one other study. Those pruned are above its best."""

    problem: Problem
    configs: tuple[Config, ...]
    geomean_us: tuple[float, ...]

    @property
    def best_us(self) -> float:
        return min(self.geomean_us)

    @property
    def winner(self) -> Config:
        """The config with the smallest mean."""
        return self.configs[self.geomean_us.index(self.best_us)]


class Known(Protocol):
    """A study whose measurements are known: one in work, or one as the storage has it."""

    @property
    def key(self) -> StudyKey: ...

    @property
    def measured(self) -> list[TrialRecord]: ...

    @property
    def finalists(self) -> Sequence[Finalist]:
        """Configs that were measured again, interleaved; empty where none were."""

    @property
    def robust(self) -> Robust:
        """The loss over routings that counts."""


class StudyHistory:
    """The studies that a run's samplers learn from. It is made before the run's own studies are
    open, and they are added to it."""

    def __init__(self, studies: Iterable[Known] = ()) -> None:
        self._studies = list(studies)

    def add(self, studies: Iterable[Known]) -> None:
        """Let samplers learn from these too."""
        self._studies += studies

    def __iter__(self) -> Iterator[Known]:
        return iter(self._studies)

    def siblings(self, key: StudyKey) -> tuple[Sibling, ...]:
        """Return the studies whose times compare with those of ``key``; see ``siblings``."""
        return siblings(key, self._studies)


def siblings(key: StudyKey, stored: Iterable[Known]) -> tuple[Sibling, ...]:
    """The studies whose times compare with those of ``key``, the most alike first.

    Same device, method, Triton version and kernel (fused or separate); the space may differ.
    The study of ``key`` and studies with fewer than ``FEWEST`` measured trials are left out.
    """
    others = (study for study in stored if study.key.problem != key.problem)
    alike = (study for study in others if study.key.problem.kernel is key.problem.kernel)
    same = (study for study in alike if comparable(study.key.device, key.device))
    made = (_sibling(study.key.problem, study.measured) for study in same)
    found = [sibling for sibling in made if sibling is not None]
    return tuple(sorted(found, key=lambda s: -likeness(s.problem, key.problem)))


def neighbours(key: StudyKey, stored: Iterable[Known]) -> list[Sibling]:
    """Return the siblings that differ in the batch size alone: the nearest two."""
    tokens = key.problem.tokens
    found = siblings(key, stored)
    same = [s for s in found if replace(s.problem, tokens=tokens) == key.problem]
    return same[:_NEIGHBOURS]


def elsewhere(key: StudyKey, stored: Iterable[Known]) -> list[AnyConfig]:
    """Return the best configs of the same layer and batch size under other methods: on another
    kernel their times say nothing, but what is best there is worth a measurement. An engine may
    serve a shared expert as one more expert, and another one apart. Studies with fewer than
    ``FEWEST`` measured trials are left out."""
    same = (
        study
        for study in stored
        if len(study.measured) >= FEWEST
        and study.key.device.method != key.device.method
        and replace(study.key.device, method="") == replace(key.device, method="")
        and _without_shared(study.key.problem) == _without_shared(key.problem)
    )
    best = (best_of(study.measured) for study in same)
    return list(dict.fromkeys(record.config for record in best if record is not None))


def _without_shared(problem: Problem) -> Problem:
    shared = problem.fused_shared_experts
    return replace(
        problem,
        experts=problem.experts - shared,
        top_k=problem.top_k - shared,
        fused_shared_experts=0,
    )


def comparable(one: Device, other: Device) -> bool:
    """True where times of both are of one kind: same GPU, method and compiler."""
    return (one.kind, one.name, one.triton_version, one.method) == (
        other.kind,
        other.name,
        other.triton_version,
        other.method,
    )


def likeness(one: Problem, other: Problem) -> float:
    """1 for equal problems, falling towards 0: how much one's times tell of the other's.

    Rows per expert decide most (they choose BLOCK_SIZE_M): twice as many, 0.6. Twice the hidden
    or intermediate size 0.7, as a gate that only one has; another dtype or scale 0.4.
    """
    apart = abs(_log_rows(one) - _log_rows(other)) / 2
    apart += abs(math.log2(one.hidden / other.hidden)) / 3
    apart += abs(math.log2(one.intermediate / other.intermediate)) / 3
    apart += (one.gated != other.gated) / 3
    apart += abs(math.log2(one.experts / other.experts)) / 4
    same_numbers = (one.dtype, one.block_shape) == (other.dtype, other.block_shape)
    return math.exp(-apart - (0.0 if same_numbers else 1.0))


def _log_rows(problem: Problem) -> float:
    """log2 of the mean rows of an expert."""
    return math.log2(problem.tokens * problem.top_k / (problem.experts * problem.ep_size))


def _sibling(problem: Problem, entries: list[TrialRecord]) -> Sibling | None:
    known = [
        (entry.config, entry.geomean_us)
        for entry in entries
        if isinstance(entry.config, Config)  # pairs teach nothing here
    ]
    if len(known) < FEWEST or not any(entry.complete for entry in entries):
        return None
    return Sibling(
        problem,
        tuple(config for config, _ in known),
        tuple(geomean_us for _, geomean_us in known),
    )
