"""Which unit a worker asks next, and which are over: read from the storage, where all meet."""

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
from autotune.studies.storage.rdb_transactions import Tally, tallies
from autotune.studies.trial_record import Measured, asked_config
from autotune.tune.tuning_study import TuningStudy

_SWEEP_S = 5.0
_FAILURES_IN_A_ROW = 40
"""So many failures with nothing measured between them end a study: something else is wrong."""


@dataclass(slots=True)
class _Turn:
    """A worker's stay at a unit."""

    position: int
    came_for_queue: bool
    started: int = 0


class StudyScheduler:
    """The units of a run as one worker sees them."""

    def __init__(
        self,
        units: Sequence[TuningStudy],
        *,
        lease: Lease,
        census: Census,
        start_at: int,
        on_over: Callable[[int], None],
    ) -> None:
        """``start_at`` is taken first where all have equally many workers; ``on_over`` hears of
        each unit that gets no more trials, as far as anybody knows."""
        self._units = units
        self._lease, self._census = lease, census
        self._on_over = on_over
        self._ledgers = [StudyView(unit.study) for unit in units]
        self._turn: _Turn | None = None
        self._last = start_at % max(len(units), 1) - 1
        self._known: set[int] = set()
        self._over: set[int] = set()
        self._left: set[int] = set()
        self._swept_at = -math.inf
        self._untold: dict[int, int] = {}

    @property
    def are_over(self) -> bool:
        """True where nothing is left to do, for this worker or others."""
        return len(self._over) == len(self._units)

    def ledger(self, position: int) -> StudyView:
        """As of the last reading."""
        return self._ledgers[position]

    def room(self, position: int) -> int:
        """Measurements that are wanted and not in work, as of the last reading."""
        unit, ledger = self._units[position], self._ledgers[position]
        goal = unit.target + ledger.finals
        return max(goal - len(ledger.entries) - len(ledger.running), 0)

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
        self._ledgers[position].note(entry)
        self._units[position].entries = self._ledgers[position].entries

    def find(self) -> int | None:
        """The unit to ask: this one while its turn lasts and it has room, else by ``by_turn``."""
        self._look_back()
        turn = self._turn
        if turn is not None and not self._is_turn_over(turn):
            if turn.position not in self._over and self._has_room(turn.position):
                return turn.position
            self._left.add(turn.position)
        counts = tallies([unit.study for unit in self._units])
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

    def _standings(self, counts: Sequence[Tally]) -> list[Standing]:
        mine = set(self._lease.names)
        held = weights_key(self._units[self._last].key.problem) if self._known else None
        others = [len(tally.workers - mine) for tally in counts]
        return [
            Standing(
                workers=others[position],
                is_queued=tally.waiting > 0 and not others[position],
                is_near=weights_key(unit.key.problem) == held,
                is_known=position in self._known,
                started=tally.measured + tally.running,
            )
            for position, (unit, tally) in enumerate(zip(self._units, counts, strict=True))
        ]

    def sweep(self) -> None:
        """Now and then: what dead workers left is queued for whoever asks next."""
        if time.monotonic() - self._swept_at < _SWEEP_S:
            return
        counts = tallies([unit.study for unit in self._units])
        for position, tally in enumerate(counts):
            is_mine = tally.workers <= set(self._lease.names)
            if not is_mine or tally.running > self._count_untold(position):
                self._sweep(position)
        self._swept_at = time.monotonic()

    def _sweep(self, position: int) -> None:
        unit, ledger = self._units[position], self._ledgers[position]
        ledger.read()
        is_wanted = not unit.ended and len(ledger.entries) < unit.target + ledger.finals
        found = sweep(
            unit.study,
            ledger,
            self._census,
            mine=self._lease.names,
            in_hand=list(self._untold),
            queue=is_wanted,
        )
        if found and is_wanted:
            self._over.discard(position)

    def _has_room(self, position: int) -> bool:
        """Reads the study, and says so where it has ended."""
        unit, ledger = self._units[position], self._ledgers[position]
        ledger.read()
        unit.entries, unit.finals = ledger.entries, ledger.finals
        if ledger.failures_in_a_row >= _FAILURES_IN_A_ROW:
            unit.ended = _failures(unit, ledger)
        is_queued = self._is_queued(position)
        if is_queued and unit.has_converged:
            unit.reopen()  # somebody's last tries
        if not unit.ended and not is_queued and self.room(position):
            unit.ended = unit.converged()
        if unit.ended or not self.room(position):
            return self._has_more(position)
        if not is_queued and unit.space.is_exhausted(ledger.taken):
            return self._has_more(position, "every config of the space was tried")
        return True

    def _is_queued(self, position: int) -> bool:
        """As of the last reading."""
        space = self._units[position].space
        return any(asked_config(trial) in space for trial in self._ledgers[position].waiting)

    def _has_more(self, position: int, reason: str = "") -> bool:
        """True where finals or last tries were queued. Else the unit is over, unless trials of it
        are in work."""
        unit, ledger = self._units[position], self._ledgers[position]
        if ledger.running or self._count_untold(position):
            return False
        is_more = unit.add_last_tries() if unit.ended else unit.add_finals()
        if is_more or unit.has_converged:
            ledger.read()  # another worker may have queued the same last tries a moment ago
            unit.finals = ledger.finals
            is_more = self._is_queued(position)
        if is_more:
            unit.reopen()
            return True
        if ledger.running:
            return False
        unit.ended = unit.ended or reason
        if unit.ended:
            unit.study.set_user_attr("finished", unit.ended)
        self._over.add(position)
        self._on_over(position)
        return False

    def _arrive(self, position: int, counts: Sequence[Tally]) -> None:
        """At a unit whose sampler learns from what everybody has measured by now."""
        self._turn = _Turn(position, came_for_queue=self._is_queued(position))
        self._last = position
        self._known.add(position)
        self._left.discard(position)
        for unit, ledger, tally in zip(self._units, self._ledgers, counts, strict=True):
            if tally.measured > len(unit.entries):
                ledger.read()
                unit.entries = ledger.entries
        if self._units[position].take_hints():
            self._ledgers[position].read()

    def _look_back(self) -> None:
        """A unit that we went on from with trials in work may have ended with the last of them."""
        for position in self._left - self._over:
            if not self._count_untold(position):
                self._has_room(position)
                self._left.discard(position)
        self._left -= self._over

    def _count_untold(self, position: int) -> int:
        return list(self._untold.values()).count(position)  # a copy: ``ended`` is another thread's

    def _is_full(self, position: int, tally: Tally) -> bool:
        """True where others will fill it, unless they fail. Costs no reading of the study."""
        return tally.running > 0 and tally.measured + tally.running >= self._units[position].goal


def _failures(unit: TuningStudy, ledger: StudyView) -> str:
    reasons = [trial.user_attrs.get("reason", "") for trial in unit.study.get_trials(False)]
    last = next((reason for reason in reversed(reasons) if reason), "")
    return f"{ledger.failures_in_a_row} failures in a row; the last: {last}"
