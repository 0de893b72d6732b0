"""A study in work: its plan, its progress, and the one place that acts on its state."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from optuna.study import Study

from autotune.backends.gpu.providers import OURS
from autotune.engines import Engine
from autotune.settings import ModelSettings
from autotune.spec.config import AnyConfig, Config
from autotune.spec.problem import Problem
from autotune.studies.coordination.study_view import BEST_HALVES, StudyView
from autotune.studies.key import StudyKey
from autotune.studies.lifecycle import (
    BestHalves,
    Draining,
    Finished,
    LastTries,
    Searching,
    StudyEnd,
    StudyFacts,
    StudyState,
    state_of,
)
from autotune.studies.pairs import best_pairs
from autotune.studies.search.batch_sampler import BatchSampler
from autotune.studies.search.history import StudyHistory, elsewhere, neighbours
from autotune.studies.search.pruning import Stop, stop_for
from autotune.studies.search.surrogate.sampler import USUAL_STOP
from autotune.studies.selection.finalists import Finalist
from autotune.studies.selection.select import Robust
from autotune.studies.space import SearchSpace, beside, regrouped
from autotune.studies.study_attributes import SearchTerms, write_end
from autotune.studies.trial_io import enqueue
from autotune.studies.trial_record import TrialRecord, asked_config, best_of
from autotune.tuning.engine_output import Result, results_of
from autotune.tuning.jobs import BASELINES, Incumbent, Job, Origin

LAST_TRY = "near the best"
"""Source of configs that are measured before a converged study ends."""


@dataclass(frozen=True, slots=True)
class StudyPlan:
    """The parts that a study is made from beside its storage; other processes make the same."""

    job: Job
    key: StudyKey
    space: SearchSpace
    prior_us: tuple[float, ...] | None
    """See ``Measurer``."""
    incumbents: tuple[Incumbent, ...]
    model: ModelSettings | None = None
    """The model that it is of, where its run has several."""
    label: str = ""
    """That model's."""
    also: tuple[ModelSettings, ...] = ()
    """Other models of the run, whose layer is the same."""

    def shared_with(self, other: StudyPlan) -> StudyPlan:
        """Return this plan for the engines of the other one too: another model's, of the same
        layer."""
        known = {engine.name for engine in self.job.engines}
        more = [engine for engine in other.job.engines if engine.name not in known]
        job = replace(self.job, engines=(*self.job.engines, *more))
        names = {engine.name for engine in more}
        added = (incumbent for incumbent in other.incumbents if incumbent.engine in names)
        also = self.also if other.model is None else (*self.also, other.model)
        return replace(self, job=job, incumbents=(*self.incumbents, *added), also=also)

    @property
    def own_config(self) -> AnyConfig | None:
        """The config that the engine launches by itself, where its kernel is measured."""
        own = (known.config for known in self.incumbents if known.origin is Origin.OWN)
        return next(own, None)


@dataclass(slots=True)
class TuningStudy:
    """The live handle of a study."""

    plan: StudyPlan
    optuna_study: Study
    terms: SearchTerms
    robust: Robust = Robust.MEAN
    history: StudyHistory = field(default_factory=StudyHistory)
    """Studies that its sampler learns from."""
    end: StudyEnd | None = None
    """Why no more is asked before the target is reached; None while it is not known."""
    finalists: Sequence[Finalist] = ()
    """Configs that were measured again, interleaved; see ``tuning.finals``."""
    in_flight: int = 0
    """Workers of this run that measure a trial of it."""
    view: StudyView = field(init=False)
    """The study as it was last read, with what was measured here since."""

    def __post_init__(self) -> None:
        self.view = StudyView(self.optuna_study)

    @property
    def key(self) -> StudyKey:
        return self.plan.key

    @property
    def problem(self) -> Problem:
        return self.plan.job.problem

    @property
    def engines(self) -> Sequence[Engine]:
        return self.plan.job.engines

    @property
    def space(self) -> SearchSpace:
        return self.plan.space

    @property
    def target(self) -> int:
        """Measurements that the run wants, beside best halves."""
        return self.terms.trials

    @property
    def goal(self) -> int:
        """Measurements wanted by now: the target, and pairs of best halves beyond it."""
        return self.target + self.view.best_halves

    @property
    def room(self) -> int:
        """Measurements that are wanted and not in work, as of the last reading."""
        return max(self.goal - len(self.measured) - len(self.view.running), 0)

    @property
    def measured(self) -> list[TrialRecord]:
        """Measurements as of the last reading or note."""
        return self.view.measured

    @property
    def best_us(self) -> float | None:
        best = best_of(self.measured)
        return best.geomean_us if best else None

    @property
    def default_us(self) -> float | None:
        """The fastest default of the engines, or what the engine whose kernel is measured launches
        by itself; None until one is measured."""
        defaults = {i.config for i in self.plan.incumbents if i.origin in BASELINES}
        times = (m.geomean_us for m in self.measured if m.complete and m.config in defaults)
        return min(times, default=None)

    @property
    def ended(self) -> str:
        """Why it ended before its target, in words; empty where it did not."""
        return "" if self.end is None else self.end.text

    @property
    def is_queued(self) -> bool:
        """True while trials of its space wait, as of the last reading."""
        return any(asked_config(trial) in self.space for trial in self.view.waiting)

    @property
    def usual_end(self) -> int:
        """Measurements after which a study like this one ends, before any has: the target, the
        whole space, or where its sampler usually stops."""
        stops = self.terms.stop_gain and isinstance(self.optuna_study.sampler, BatchSampler)
        return min(self.target, len(self.space), USUAL_STOP if stops else self.target)

    def results(self) -> list[Result]:
        """Return what it has to say to each of its engines."""
        return results_of(self, self.engines, self.plan.incumbents)

    def stop(self, config: AnyConfig) -> Stop | None:
        """Return what ``config`` is given up against. Incumbents are measured to the end: they are
        the baselines of the finals, and speed-ups are told over them."""
        incumbents = {incumbent.config for incumbent in self.plan.incumbents}
        return None if config in incumbents else stop_for(self.measured)

    def queue_neighbours(self) -> None:
        """Queue, before a worker's turn of this study, the winners of the neighbouring batch sizes
        that it has not tried, and those of the same one on another engine's kernel. The former are
        compiled already; the sampler learns from these studies, but it may take many trials before
        it asks for just that config."""
        near = neighbours(self.key, self.history)
        starts: list[tuple[AnyConfig, str]] = [
            *((s.winner, f"best at {s.problem.tokens} tokens") for s in near),
            *((config, "best on another kernel") for config in elsewhere(self.key, self.history)),
        ]
        if enqueue(self.optuna_study, self.space, starts, goal=self.goal):
            self.view.read()

    def advance(self, unwritten: int = 0) -> StudyState:
        """Read the study, find its state, and act on it: queue what it lacks, take back an end
        that does not hold any more, or write the end. ``unwritten`` counts this worker's trials
        whose end the storage does not have yet.

        After queueing, the state is found anew: another worker may have queued the same."""
        facts = self._facts(unwritten)
        state = state_of(facts)
        if isinstance(state, Finished):  # unless something is left to try
            state = state_of(self._with_candidates(facts))
        if isinstance(state, LastTries | BestHalves):
            self._go_on()
            self._queue(state)
            state = state_of(self._facts(unwritten))
        if isinstance(state, Searching):
            if self.end is not None:
                self._go_on()
        elif isinstance(state, Draining):
            self.end = state.end
        elif isinstance(state, Finished):
            self.end = state.end if state.end.text else None
            if self.end is not None:
                write_end(self.optuna_study, self.end)
        return state

    @property
    def is_finished(self) -> bool:
        """True where nothing is left to ask, not even a last try; acts on nothing."""
        return isinstance(state_of(self._with_candidates(self._facts(unwritten=0))), Finished)

    def _go_on(self) -> None:
        """Take back an end, whoever wrote it."""
        write_end(self.optuna_study, None)
        self.end = None

    def _queue(self, state: LastTries | BestHalves) -> None:
        starts: Iterable[tuple[AnyConfig, str]]
        goal: float = math.inf
        if isinstance(state, LastTries):
            starts, goal = ((config, LAST_TRY) for config in state.configs), self.goal
        else:
            starts = ((pair, BEST_HALVES) for pair in state.pairs)
        enqueue(self.optuna_study, self.space, starts, goal=goal)

    def _facts(self, unwritten: int) -> StudyFacts:
        self.view.read()
        view = self.view
        facts = StudyFacts(
            end=self.end,
            measured=len(self.measured),
            running=len(view.running),
            unwritten=unwritten,
            is_queued=self.is_queued,
            goal=self.goal,
            failures=view.failures,
            is_exhausted=self.space.is_exhausted(view.taken),
            stop_gain=self.terms.stop_gain,
        )
        return replace(facts, expected_gain=self._gain(facts))

    def _with_candidates(self, facts: StudyFacts) -> StudyFacts:
        """Add the untried configs that are worth a measurement before the study ends."""
        taken, pairs = self.view.taken, best_pairs(self.measured)
        near = regrouped if self.plan.job.provider == OURS else beside
        if self.view.best_halves >= 2 * len(pairs):
            pairs = []
        return replace(
            facts,
            last_tries=_new(last_tries(self.measured, self.space, near), self.space, taken),
            best_halves=_new(pairs, self.space, taken),
        )

    def _gain(self, facts: StudyFacts) -> float:
        """Ask the sampler, which takes long, where its answer counts."""
        sampler = self.optuna_study.sampler
        is_asked = facts.end is None and facts.has_room and not facts.is_queued
        if not is_asked or not facts.stop_gain or not isinstance(sampler, BatchSampler):
            return math.inf
        return sampler.expected_gain(self.optuna_study)


def last_tries(
    entries: Collection[TrialRecord],
    space: SearchSpace,
    near: Callable[[Config, SearchSpace], Iterator[Config]],
) -> Iterator[Config]:
    """Yield what is ``near`` the best config, to be measured before a study ends: another
    GROUP_SIZE_M where it costs no compile; else the next BLOCK_SIZE_N, without which DeepSeek-V3 at
    1024 tokens was 3 to 4 % behind in half of the simulated runs, and with it in fewer
    (benchmarks/workers). Nothing of pairs, and where nothing was measured to the end."""
    best = best_of(entries)
    if best is not None and isinstance(best.config, Config):
        yield from near(best.config, space)


def _new(
    configs: Iterable[AnyConfig], space: SearchSpace, taken: Collection[AnyConfig]
) -> tuple[AnyConfig, ...]:
    return tuple(config for config in configs if config in space and config not in taken)
