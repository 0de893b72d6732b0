"""Which study a worker asks next, and which are over: read from the storage, where all meet."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from autotune.spec.problem import weights_key
from autotune.studies.coordination.claims import sweep
from autotune.studies.coordination.leases import Census, Lease
from autotune.studies.coordination.round_robin import Standing, by_turn, is_turn_over
from autotune.studies.coordination.study_view import StudyView
from autotune.studies.storage.handles import transactions_of
from autotune.studies.storage.transactions import Tally
from autotune.studies.trial_record import REASON, Measured, asked_config
from autotune.tune.tuning_study import TuningStudy

_SWEEP_S = 5.0
_FAILURES_IN_A_ROW = 40
"""So many failures with nothing measured between them end a study: something else is wrong."""


@dataclass(slots=True)
class _Turn:
    """A worker's stay at a study."""

    position: int
    came_for_queue: bool
    started: int = 0


class StudyScheduler:
    """The studies of a run as one worker sees them."""

    def __init__(
        self,
        studies: Sequence[TuningStudy],
        *,
        lease: Lease,
        census: Census,
        start_at: int,
        on_over: Callable[[int], None],
    ) -> None:
        """``start_at`` is taken first where all have equally many workers; ``on_over`` hears of
        each study that gets no more trials, as far as anybody knows."""
        self._studies = studies
        self._lease, self._census = lease, census
        self._on_over = on_over
        self._views = [StudyView(study.optuna_study) for study in studies]
        self._turn: _Turn | None = None
        self._last = start_at % max(len(studies), 1) - 1
        self._known: set[int] = set()
        self._over: set[int] = set()
        self._left: set[int] = set()
        self._swept_at = -math.inf
        self._untold: dict[int, int] = {}

    @property
    def are_over(self) -> bool:
        """True where nothing is left to do, for this worker or others."""
        return len(self._over) == len(self._studies)

    def view(self, position: int) -> StudyView:
        """As of the last reading."""
        return self._views[position]

    def room(self, position: int) -> int:
        """Measurements that are wanted and not in work, as of the last reading."""
        study, view = self._studies[position], self._views[position]
        goal = study.target + view.finals
        return max(goal - len(view.entries) - len(view.running), 0)

    def begun(self, position: int, trial_id: int) -> None:
        """A trial is this worker's until ``ended`` says that the storage has its end."""
        self._untold[trial_id] = position
        if self._turn is not None:
            self._turn.started += 1

    def ended(self, trial_id: int) -> None:
        """Thread-safe."""
        self._untold.pop(trial_id, None)

    def note(self, position: int, entry: Measured) -> None:
        """A measurement that will be in the storage soon."""
        self._views[position].note(entry)
        self._studies[position].entries = self._views[position].entries

    def find(self) -> int | None:
        """The study to ask: this one while its turn lasts and it has room, else by ``by_turn``."""
        self._look_back()
        turn = self._turn
        if turn is not None and not self._is_turn_over(turn):
            if turn.position not in self._over and self._has_room(turn.position):
                return turn.position
            self._left.add(turn.position)
        counts = self._tallies()
        for position in by_turn(self._standings(counts), self._last):
            if position in self._over or self._is_full(position, counts[position]):
                continue
            if self._has_room(position):
                self._arrive(position, counts)
                return position
        self._turn = None
        return None

    def _is_turn_over(self, turn: _Turn) -> bool:
        queued = self._is_queued(turn.position)
        over = is_turn_over(turn.started, came_for_queue=turn.came_for_queue, is_queued=queued)
        if over and not self.room(turn.position):
            self._left.add(turn.position)
        return over

    def _tallies(self) -> list[Tally]:
        studies = [study.optuna_study for study in self._studies]
        return transactions_of(studies[0]).tallies(studies) if studies else []

    def _standings(self, counts: Sequence[Tally]) -> list[Standing]:
        mine = set(self._lease.names)
        held = weights_key(self._studies[self._last].key.problem) if self._known else None
        others = [len(tally.workers - mine) for tally in counts]
        return [
            Standing(
                workers=others[position],
                is_queued=tally.waiting > 0 and not others[position],
                is_near=weights_key(study.key.problem) == held,
                is_known=position in self._known,
                started=tally.measured + tally.running,
            )
            for position, (study, tally) in enumerate(zip(self._studies, counts, strict=True))
        ]

    def sweep(self) -> None:
        """Now and then: what dead workers left is queued for whoever asks next."""
        if time.monotonic() - self._swept_at < _SWEEP_S:
            return
        counts = self._tallies()
        for position, tally in enumerate(counts):
            is_mine = tally.workers <= set(self._lease.names)
            if not is_mine or tally.running > self._count_untold(position):
                self._sweep(position)
        self._swept_at = time.monotonic()

    def _sweep(self, position: int) -> None:
        study, view = self._studies[position], self._views[position]
        view.read()
        is_wanted = not study.ended and len(view.entries) < study.target + view.finals
        found = sweep(
            study.optuna_study,
            view,
            self._census,
            mine=self._lease.names,
            in_hand=list(self._untold),
            queue=is_wanted,
        )
        if found and is_wanted:
            self._over.discard(position)

    def _has_room(self, position: int) -> bool:
        """Reads the study, and says so where it has ended."""
        study, view = self._studies[position], self._views[position]
        view.read()
        study.entries, study.finals = view.entries, view.finals
        if view.failures_in_a_row >= _FAILURES_IN_A_ROW:
            study.ended = _failures(study, view)
        is_queued = self._is_queued(position)
        if is_queued and study.has_converged:
            study.reopen()  # somebody's last tries
        if not study.ended and not is_queued and self.room(position):
            study.ended = study.converged()
        if study.ended or not self.room(position):
            return self._has_more(position)
        if not is_queued and study.space.is_exhausted(view.taken):
            return self._has_more(position, "every config of the space was tried")
        return True

    def _is_queued(self, position: int) -> bool:
        """As of the last reading."""
        space = self._studies[position].space
        return any(asked_config(trial) in space for trial in self._views[position].waiting)

    def _has_more(self, position: int, reason: str = "") -> bool:
        """True where finals or last tries were queued. Else the study is over, unless trials of it
        are in work."""
        study, view = self._studies[position], self._views[position]
        if view.running or self._count_untold(position):
            return False
        is_more = study.add_last_tries() if study.ended else study.add_finals()
        if is_more or study.has_converged:
            view.read()  # another worker may have queued the same last tries a moment ago
            study.finals = view.finals
            is_more = self._is_queued(position)
        if is_more:
            study.reopen()
            return True
        if view.running:
            return False
        study.ended = study.ended or reason
        if study.ended:
            study.optuna_study.set_user_attr("finished", study.ended)
        self._over.add(position)
        self._on_over(position)
        return False

    def _arrive(self, position: int, counts: Sequence[Tally]) -> None:
        """At a study whose sampler learns from what everybody has measured by now."""
        self._turn = _Turn(position, came_for_queue=self._is_queued(position))
        self._last = position
        self._known.add(position)
        self._left.discard(position)
        for study, view, tally in zip(self._studies, self._views, counts, strict=True):
            if tally.measured > len(study.entries):
                view.read()
                study.entries = view.entries
        if self._studies[position].take_hints():
            self._views[position].read()

    def _look_back(self) -> None:
        """A study that we went on from with trials in work may have ended with the last of them."""
        for position in self._left - self._over:
            if not self._count_untold(position):
                self._has_room(position)
                self._left.discard(position)
        self._left -= self._over

    def _count_untold(self, position: int) -> int:
        return list(self._untold.values()).count(position)  # a copy: ``ended`` is another thread's

    def _is_full(self, position: int, tally: Tally) -> bool:
        """True where others will fill it, unless they fail. Costs no reading of the study."""
        return tally.running > 0 and tally.measured + tally.running >= self._studies[position].goal


def _failures(study: TuningStudy, view: StudyView) -> str:
    reasons = [trial.user_attrs.get(REASON, "") for trial in study.optuna_study.get_trials(False)]
    last = next((reason for reason in reversed(reasons) if reason), "")
    return f"{view.failures_in_a_row} failures in a row; the last: {last}"
