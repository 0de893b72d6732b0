"""The choice of the study that a worker asks next, from the storage, where all workers meet.

A config is compiled once for every batch size and takes a hundred times as long to compile as to
measure. Asking every study for its expected gain costs as much as a proposal each, so a worker
visits them round-robin: benchmarks/workers/turns.py. What knowing the gains would bring is
simulated by benchmarks/samplers/model_seconds.py.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from autotune.spec.problem import weights_key
from autotune.studies.coordination.claims import sweep
from autotune.studies.coordination.leases import Census, Lease
from autotune.studies.lifecycle import Finished, Searching
from autotune.studies.storage.protocol import Tally
from autotune.studies.storage.transactions import transactions_of
from autotune.tuning.tuning_study import StudyPlan, TuningStudy

_SWEEP_S = 5.0
VISIT = 6
"""Trials of a visit. Few, since a study learns from its siblings between visits, and its proposals
of one visit know little of each other's results. 6 and 12 were not told apart by
benchmarks/workers/turns.py (three seeds)."""


@dataclass(frozen=True, slots=True)
class Standing:
    """A study as a worker sees it that looks for its next visit."""

    workers: int
    """Other workers on it."""
    is_queued: bool
    """Trials wait that are measured whatever is believed: defaults, warm starts, what somebody
    left; nobody else is about to take them, and they are worth turning to: the device holds the
    study's weights, or the study has nothing to show."""
    is_near: bool
    """The device holds its weights."""
    is_known: bool
    """This worker visited it: the device may hold its tensors, and its sampler is warm."""
    started: int
    """Trials measured or in work."""


def visiting_order(standings: Sequence[Standing], last: int) -> list[int]:
    """Return the positions of the studies in the order in which a worker tries them that visited
    ``last``.

    Queued trials come first, so that every study has something to show before one of them is
    searched; then studies that cost the least to turn to, so that several workers part the studies
    among them; those where the fewest others work; and all round-robin.
    """
    count = len(standings)

    def rank(position: int) -> tuple[bool, bool, bool, int, int, int]:
        s = standings[position]
        distance = (position - last - 1) % count
        return not s.is_queued, not s.is_near, not s.is_known, s.workers, s.started, distance

    return sorted(range(count), key=rank)


def first_position(plans: Sequence[StudyPlan], number: int) -> int:
    """Return the study that the worker of this number begins with: workers begin with different
    models, where there are several, and there with different studies."""
    models = list(dict.fromkeys(plan.model for plan in plans))
    if not models:
        return number
    turn, model = divmod(number, len(models))
    of_model = [at for at, plan in enumerate(plans) if plan.model == models[model]]
    return of_model[turn % len(of_model)]


@dataclass(slots=True)
class Visit:
    """A worker's stay at a study."""

    position: int
    came_for_queue: bool
    started: int = 0

    def is_over(self, *, is_queued: bool) -> bool:
        """True when it is time to look for another study."""
        return not is_queued if self.came_for_queue else self.started >= VISIT


class StudyScheduler:
    """The studies of a run as one worker sees them, named by their positions."""

    def __init__(
        self,
        studies: Sequence[TuningStudy],
        *,
        lease: Lease,
        census: Census,
        start_at: int,
        on_finished: Callable[[int], None],
        own: Collection[int] | None = None,
    ) -> None:
        """``start_at`` is taken first where all have equally many workers; ``on_finished`` hears
        of each study that gets no more trials, as far as anybody knows. Only studies at the ``own``
        positions are asked (None: all); samplers learn from the others too."""
        self._studies = studies
        self.own = list(range(len(studies)) if own is None else own)
        """Positions of the studies that are asked."""
        self._lease, self._census = lease, census
        self._on_finished = on_finished
        self._visit: Visit | None = None
        self._last = start_at % max(len(studies), 1) - 1
        self._visited: set[int] = set()
        self._finished: set[int] = set()
        self._left: set[int] = set()
        """Studies that this worker went on from, to be looked at when its trials have ended."""
        self._swept_at = -math.inf
        self._unwritten: dict[int, int] = {}
        """Trial id → position, of this worker's trials whose end the storage does not have."""

    @property
    def are_finished(self) -> bool:
        """True where nothing is left to do, for this worker or others."""
        return len(self._finished) == len(self.own)

    @property
    def is_written(self) -> bool:
        """True where the storage has the end of each of this worker's trials."""
        return not self._unwritten

    def begun(self, position: int, trial_id: int) -> None:
        """Count a trial as this worker's until ``written`` says that the storage has its end."""
        self._unwritten[trial_id] = position
        if self._visit is not None:
            self._visit.started += 1

    def written(self, trial_id: int) -> None:
        """Count it no more. Thread-safe."""
        self._unwritten.pop(trial_id, None)

    def find(self, *, may_turn: bool = True) -> int | None:
        """Return the study to ask: the one that is visited while it has room, else the next by
        ``visiting_order``; None where no study wants a trial now. Unless the worker ``may_turn``,
        only studies whose weights the device holds: what is in work needs them."""
        self._look_back()
        visit = self._visit
        if visit is not None and not self._is_over(visit):
            if visit.position not in self._finished and self._wants_trials(visit.position):
                return visit.position
            self._left.add(visit.position)
        counts = self._tallies()
        standings = self._standings(counts)
        for position in visiting_order(standings, self._last):
            if position not in self.own or position in self._finished:
                continue
            if not may_turn and not standings[position].is_near:
                continue
            if self._is_full(position, counts[position]):
                continue
            if self._wants_trials(position):
                self._arrive(position, counts)
                return position
        self._visit = None
        return None

    def sweep(self) -> None:
        """Queue, every few seconds, what dead workers left, for whoever asks next."""
        if time.monotonic() - self._swept_at < _SWEEP_S:
            return
        counts = self._tallies()
        for position in self.own:
            tally = counts[position]
            is_mine = tally.workers <= set(self._lease.names)
            if not is_mine or tally.running > self._count_unwritten(position):
                self._sweep(position)
        self._swept_at = time.monotonic()

    def _sweep(self, position: int) -> None:
        study = self._studies[position]
        study.view.read()
        is_wanted = study.end is None and len(study.measured) < study.goal
        found = sweep(
            study.optuna_study,
            study.view,
            self._census,
            mine=self._lease.names,
            in_hand=list(self._unwritten),
            queue=is_wanted,
        )
        if found and is_wanted:
            self._finished.discard(position)

    def _tallies(self) -> list[Tally]:
        studies = [study.optuna_study for study in self._studies]
        return transactions_of(studies[0]).tallies(studies) if studies else []

    def _standings(self, counts: Sequence[Tally]) -> list[Standing]:
        mine = set(self._lease.names)
        held = weights_key(self._studies[self._last].problem) if self._visited else None
        near = [weights_key(study.problem) == held for study in self._studies]
        others = [len(tally.workers - mine) for tally in counts]
        return [
            Standing(
                workers=others[position],
                is_queued=tally.waiting > 0
                and not others[position]
                and (held is None or near[position] or not tally.measured),
                is_near=near[position],
                is_known=position in self._visited,
                started=tally.measured + tally.running,
            )
            for position, (study, tally) in enumerate(zip(self._studies, counts, strict=True))
        ]

    def _is_over(self, visit: Visit) -> bool:
        study = self._studies[visit.position]
        is_over = visit.is_over(is_queued=study.is_queued)
        if is_over and not study.room:
            self._left.add(visit.position)
        return is_over

    def _wants_trials(self, position: int) -> bool:
        """Bring the study's state up to date; the parent hears where it has finished."""
        state = self._studies[position].advance(self._count_unwritten(position))
        if isinstance(state, Finished):
            self._finished.add(position)
            self._on_finished(position)
        return isinstance(state, Searching)

    def _arrive(self, position: int, counts: Sequence[Tally]) -> None:
        """Begin a visit; the study's sampler learns from what everybody has measured by now."""
        study = self._studies[position]
        self._visit = Visit(position, came_for_queue=study.is_queued)
        self._last = position
        self._visited.add(position)
        self._left.discard(position)
        for other, tally in zip(self._studies, counts, strict=True):
            if tally.measured > len(other.measured):
                other.view.read()
        study.queue_neighbours()

    def _look_back(self) -> None:
        """A study that was left with trials in work may have finished with the last of them."""
        for position in self._left - self._finished:
            if not self._count_unwritten(position):
                self._wants_trials(position)
                self._left.discard(position)
        self._left -= self._finished

    def _count_unwritten(self, position: int) -> int:
        return list(self._unwritten.values()).count(position)  # a copy: another thread writes

    def _is_full(self, position: int, tally: Tally) -> bool:
        """True where others will fill it, unless they fail. Costs no reading of the study."""
        return tally.running > 0 and tally.measured + tally.running >= self._studies[position].goal
