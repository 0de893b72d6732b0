"""A worker's calls of its child: to measure a trial, to say what is compiled, to measure finals."""

from __future__ import annotations

from dataclasses import dataclass

from autotune.backends.binaries import Binaries
from autotune.backends.protocol import Measurer
from autotune.spec.config import AnyConfig
from autotune.spec.problem import Problem
from autotune.studies.storage.protocol import Asked
from autotune.tune.finals import Rounds
from autotune.tune.processes.child import Call
from autotune.tune.time_line import Cause


@dataclass(slots=True)
class InFlightTrial:
    """A trial between ask and tell."""

    position: int
    """The place of its study among the worker's."""
    asked: Asked
    ahead_s: float = 0.0
    """Seconds that the pool compiled for it."""


@dataclass(frozen=True, slots=True)
class BinariesQuestion:
    """A question to the child: which compiles do these configs' launches need? Trials wait for its
    answer, and what is likely to be asked next is compiled while nobody waits."""

    problem: Problem
    trials: tuple[InFlightTrial, ...]
    likely: tuple[AnyConfig, ...]
    """What is likely to be asked next, of which some may be known."""
    configs: tuple[AnyConfig, ...]
    """What the child is asked about."""

    @property
    def call(self) -> Call[tuple[Binaries, ...]]:
        """The call that the child answers, for ``configs``."""
        return Call.of(Measurer.binaries, self.problem, self.configs)


@dataclass(frozen=True, slots=True)
class FinalsRound:
    """A round of a study's finals, in the child's hands."""

    position: int
    rounds: Rounds
    order: tuple[AnyConfig, ...]
    count: int
    """Measurements that the study had when its finalists were picked."""


Known = dict[Problem, dict[AnyConfig, Binaries]]
"""What a child has said: it takes 3 ms for a config, in which its device does nothing."""

Item = InFlightTrial | BinariesQuestion | FinalsRound
"""What the child's calls are about."""


def question_about(
    problem: Problem,
    trials: tuple[InFlightTrial, ...],
    likely: tuple[AnyConfig, ...],
    known: Known,
) -> BinariesQuestion:
    """Return the question about what is not ``known`` of these."""
    asked = dict.fromkeys((*(trial.asked.config for trial in trials), *likely))
    told = known.get(problem, {})
    new = tuple(config for config in asked if config not in told)
    return BinariesQuestion(problem, trials, likely, new)


def trials_of(item: Item) -> tuple[InFlightTrial, ...]:
    """Return the trials that are in work with the call."""
    if isinstance(item, BinariesQuestion):
        return item.trials
    return (item,) if isinstance(item, InFlightTrial) else ()


def cause_of(item: Item) -> Cause:
    """Return what the device does meanwhile."""
    if isinstance(item, BinariesQuestion):
        return Cause.ENGINE
    return Cause.TIME if isinstance(item, InFlightTrial) else Cause.FINALS
