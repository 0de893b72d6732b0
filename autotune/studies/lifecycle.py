"""A study's way from its first trial to its end, as a pure function of what is known of it.

    Searching ──► Draining ──► LastTries ──► Searching …  the sampler had enough: a few cheap tries
        ▲            │  └────► BestHalves ─► Searching …  pairs: halves of different trials together
        └────────────┘  └────► Finished                   with its reason

``TuningStudy.advance`` collects the facts and acts on the state; nothing else does. Any number of
workers may do so at the same time: what one of them queues, the others find queued.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from autotune.spec.config import AnyConfig

FAILURES_IN_A_ROW = 40
"""Failures with nothing measured between them that end a study: something else is wrong."""


class EndReason(Enum):
    """Why a study gets no more trials."""

    TARGET = ""
    """It has its measurements. Not written: the next run may want more."""
    CONVERGED = "converged"
    """The sampler expects too little of the next trial."""
    EXHAUSTED = "every config of the space was tried"
    FAILURES = "failures in a row"
    OTHER = "other"
    """An end that another version wrote."""


@dataclass(frozen=True, slots=True)
class StudyEnd:
    """Why a study ended. ``text`` is what the storage and people get, ``parse`` its inverse."""

    reason: EndReason
    detail: str = ""
    """Figures of this end, in words."""

    @classmethod
    def converged(cls, gain: float) -> StudyEnd:
        """Return the end of a study whose sampler expects to save this share."""
        return cls(EndReason.CONVERGED, f"{gain:.2%} expected of the next trial")

    @classmethod
    def failed(cls, reasons: Sequence[str]) -> StudyEnd:
        """Return the end of a study whose latest trials failed, the last one first."""
        last = next(filter(None, reasons), "")
        return cls(EndReason.FAILURES, f"{len(reasons)} {_IN_A_ROW}{last}")

    @classmethod
    def parse(cls, text: str) -> StudyEnd | None:
        """Return the end that a stored text tells; None for an empty one."""
        if not text:
            return None
        if text == EndReason.EXHAUSTED.value:
            return cls(EndReason.EXHAUSTED)
        reason, _, detail = text.partition(": ")
        if reason == EndReason.CONVERGED.value:
            return cls(EndReason.CONVERGED, detail)
        is_failure = _IN_A_ROW in text
        return cls(EndReason.FAILURES if is_failure else EndReason.OTHER, text)

    @property
    def text(self) -> str:
        """The end in words; empty for a study that reached its target."""
        if self.reason is EndReason.CONVERGED and self.detail:
            return f"{self.reason.value}: {self.detail}"
        return self.detail or self.reason.value


_IN_A_ROW = f"{EndReason.FAILURES.value}; the last: "


@dataclass(frozen=True, slots=True)
class StudyFacts:
    """The facts known of a study at one moment."""

    end: StudyEnd | None
    """The end that was found before, by this worker or an earlier run; it stands until somebody
    queues last tries."""
    measured: int
    running: int
    """Trials in work whose measurement is not known yet."""
    unwritten: int
    """Trials of this worker whose end the storage does not have yet, running ones among them."""
    is_queued: bool
    """True while trials of its space wait."""
    goal: int
    """Measurements wanted by now."""
    failures: Sequence[str] = ()
    """Reasons of the trials that failed since the last that was measured, the last one first."""
    is_exhausted: bool = False
    """True where every config of its space is taken."""
    expected_gain: float = float("inf")
    """Share of the best time that the sampler expects the next trial to save; infinite where too
    little is known to say."""
    stop_gain: float = 0.0
    """Share below which the sampler has had enough."""
    last_tries: tuple[AnyConfig, ...] = ()
    """Untried configs that are worth a measurement before a converged study ends."""
    best_halves: tuple[AnyConfig, ...] = ()
    """Untried pairs of halves that were fastest in different trials."""

    @property
    def has_room(self) -> bool:
        """True while a measurement is wanted and not in work."""
        return self.measured + self.running < self.goal


@dataclass(frozen=True, slots=True)
class Searching:
    """A state in which trials are asked for."""


@dataclass(frozen=True, slots=True)
class Draining:
    """A state in which nothing is asked until the trials in work have ended."""

    end: StudyEnd | None
    """The end that was found meanwhile; None for the target, and for an exhausted space."""


@dataclass(frozen=True, slots=True)
class LastTries:
    """A state of a converged study: these configs are to be queued."""

    configs: tuple[AnyConfig, ...]


@dataclass(frozen=True, slots=True)
class BestHalves:
    """A state of a study of pairs: these are to be queued."""

    pairs: tuple[AnyConfig, ...]


@dataclass(frozen=True, slots=True)
class Finished:
    """A state in which nothing is left to do."""

    end: StudyEnd


StudyState = Searching | Draining | LastTries | BestHalves | Finished


def state_of(facts: StudyFacts) -> StudyState:
    """Return the state of a study of which these facts are known."""
    end = _end(facts)
    is_exhausted = facts.is_exhausted and not facts.is_queued
    if end is None and facts.has_room and not is_exhausted:
        return Searching()
    if facts.running or facts.unwritten:
        return Draining(end)
    if end is not None and end.reason is EndReason.CONVERGED and facts.last_tries:
        return LastTries(facts.last_tries)
    if end is not None:
        return Finished(end)
    if facts.best_halves:
        return BestHalves(facts.best_halves)
    return Finished(StudyEnd(EndReason.EXHAUSTED if facts.has_room else EndReason.TARGET))


def _end(facts: StudyFacts) -> StudyEnd | None:
    """Return why nothing more is asked before the target is reached."""
    if len(facts.failures) >= FAILURES_IN_A_ROW:
        return StudyEnd.failed(facts.failures)
    end = facts.end
    if facts.is_queued:  # they are measured, whatever is believed of them
        return None if end is not None and end.reason is EndReason.CONVERGED else end
    if end is None and facts.has_room and facts.expected_gain < facts.stop_gain:
        return StudyEnd.converged(facts.expected_gain)
    return end
