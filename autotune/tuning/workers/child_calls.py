"""A worker's calls of its child: to measure a trial, to say what is compiled, to measure finals."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from autotune.backends.binaries import Binaries
from autotune.backends.protocol import TimedBinaries, timed_binaries
from autotune.spec.binary import BOTH, Which
from autotune.spec.config import AnyConfig, pair_of
from autotune.spec.problem import Problem
from autotune.studies.storage.protocol import Asked
from autotune.tuning.finals import Rounds
from autotune.tuning.processes.child import Call
from autotune.tuning.time_line import Cause


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

    is_waiting: bool = False
    """True where the answer to another question, which is on its way, is needed, too."""

    @property
    def call(self) -> Call[TimedBinaries]:
        """The call that the child answers, for ``configs``."""
        return Call.of(timed_binaries, self.problem, self.configs)


@dataclass(frozen=True, slots=True)
class FinalsRound:
    """A round of a study's finals, in the child's hands."""

    position: int
    rounds: Rounds
    order: tuple[AnyConfig, ...]
    count: int
    """Measurements that the study had when its finalists were picked."""


Item = InFlightTrial | BinariesQuestion | FinalsRound
"""What the child's calls are about."""


class Known:
    """What a child has said of the launches of an engine, and what follows from it.

    It takes milliseconds for a config, in which its device does nothing. Batch sizes of a layer
    mostly need the same compiles for a config: Triton tells apart whether 16 divides a number, and
    engines a few ranges of tokens. So where two were told the same of a config, they are taken to
    need the same for all with its BLOCK_SIZE_M, by which the rows of a launch are counted. The
    child launches what the engine launches: where that is another binary, it is compiled late.
    """

    def __init__(self) -> None:
        self._told: dict[Problem, dict[AnyConfig, Binaries]] = {}
        self._asked: dict[Problem, set[AnyConfig]] = {}

    def tell(
        self, problem: Problem, configs: Sequence[AnyConfig], answers: Sequence[Binaries] | None
    ) -> None:
        """Take in what the child has said of each config; None: it could not say."""
        self._asked.get(problem, set()).difference_update(configs)
        if answers is not None:
            told = self._told.setdefault(problem, {})
            told.update(zip(configs, answers, strict=True))

    def get(self, problem: Problem, config: AnyConfig) -> Binaries | None:
        """Return the compiles that a config needs; None where that is not known."""
        own = self._told.get(problem, {}).get(config)
        if own is not None:
            return own
        block_size_m = pair_of(config).up.block_size_m
        for other, told in self._told.items():
            found = told.get(config, {})
            if len(found) == len(BOTH) and self._are_alike(problem, other, block_size_m):
                return found
        return None

    def of(self, problem: Problem, configs: Iterable[AnyConfig]) -> list[Binaries]:
        """Return what is known of these, as far as there is something to compile."""
        found = (self.get(problem, config) for config in configs)
        return [binaries for binaries in found if binaries]

    def question(
        self, problem: Problem, trials: tuple[InFlightTrial, ...], likely: tuple[AnyConfig, ...]
    ) -> BinariesQuestion:
        """Return the question about what is not known of these, and was not asked before."""
        wanted = dict.fromkeys((*(trial.asked.config for trial in trials), *likely))
        unknown = [config for config in wanted if self.get(problem, config) is None]
        asked = self._asked.setdefault(problem, set())
        new = tuple(config for config in unknown if config not in asked)
        is_waiting = len(new) < len(unknown)
        asked.update(new)
        return BinariesQuestion(problem, trials, likely, new, is_waiting)

    def _are_alike(self, problem: Problem, other: Problem, block_size_m: int) -> bool:
        """True if what was told of both says so, of the up and of the down GEMM. What a child has
        loaded already it tells nothing of."""
        mine, others = self._told.get(problem, {}), self._told[other]
        equal: set[Which] = set()
        for config in mine.keys() & others.keys():
            if pair_of(config).up.block_size_m == block_size_m:
                for which in mine[config].keys() & others[config].keys():
                    if mine[config][which].key != others[config][which].key:
                        return False
                    equal.add(which)
        return len(equal) == len(BOTH)


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
