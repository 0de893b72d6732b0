"""The parent's loop: takes in what the workers report, and shows it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from autotune.studies.storage.retry import retry_storage
from autotune.tune.observer import Observer
from autotune.tune.processes.signals import Interrupt
from autotune.tune.tuning_study import TuningStudy
from autotune.tune.workers.protocol import (
    FinalsMeasured,
    MeasureFinals,
    SearchFinished,
    StudyFinished,
    TrialFinished,
    TrialStarted,
)
from autotune.tune.workers.supervisor import WorkerDied, WorkerSupervisor

LEAVE_S = 5.0
"""How long an interrupted run waits for its workers."""


class Settling(Protocol):
    """Who is told of finalists."""

    def settling(self, unit: TuningStudy) -> None: ...

    def settled(self, unit: TuningStudy) -> None: ...


class RunMonitor:
    """Keeps the parent's units as the workers' reports have them."""

    def __init__(
        self, units: Sequence[TuningStudy], observers: Sequence[Observer], settling: Settling
    ) -> None:
        self._units = units
        self._observers = observers
        self._settling = settling
        self._at: dict[int, TuningStudy] = {}
        self._over: set[int] = set()
        self._seconds = self._busy_s = 0.0

    @property
    def busy(self) -> float | None:
        """Share of the workers' time in which their devices verified and timed."""
        return self._busy_s / self._seconds if self._seconds else None

    def work(self, crew: WorkerSupervisor, interrupt: Interrupt) -> None:
        """Until the workers have nothing left, or the user has interrupted."""
        while crew.is_at_work and interrupt.since_s <= LEAVE_S:
            if interrupt.requested:
                crew.leave()
            for number, event in crew.listen():
                self._take(number, event)
            for observer in self._observers:
                observer.tick()

    def settle(self, crew: WorkerSupervisor, interrupt: Interrupt) -> None:
        """The finalists of every unit, by whichever worker is free."""
        for _, event in crew.settle(range(len(self._units))):
            if interrupt.requested:
                crew.leave()
            if isinstance(event, MeasureFinals):
                self._settling.settling(self._units[event.position])
            elif isinstance(event, FinalsMeasured):
                unit = self._units[event.position]
                unit.finalists = list(event.finalists)
                self._settling.settled(unit)

    def _take(self, number: int, event: object) -> None:
        if isinstance(event, TrialStarted):
            self._turn(number, self._units[event.position])
            for observer in self._observers:
                observer.trial_asked(self._units[event.position], number, event.config)
        elif isinstance(event, TrialFinished):
            unit = self._units[event.position]
            if event.entry is not None and not unit.has(event.entry.trial_number):
                unit.entries.append(event.entry)
            for observer in self._observers:
                observer.trial_told(unit, event.result)
        elif isinstance(event, StudyFinished):
            self._end(event)
        elif isinstance(event, SearchFinished):
            self._seconds += event.spent.seconds
            self._busy_s += event.spent.busy_s
            self._turn(number, None)
        elif isinstance(event, WorkerDied):
            self._turn(number, None)

    def _turn(self, number: int, unit: TuningStudy | None) -> None:
        """A worker turns to a unit, away from the one before."""
        before = self._at.pop(number, None)
        if before is not None:
            before.in_flight -= 1
        if unit is not None:
            unit.in_flight += 1
            self._at[number] = unit

    def _end(self, event: StudyFinished) -> None:
        unit = self._units[event.position]
        unit.ended = event.ended
        if event.position not in self._over:
            self._over.add(event.position)
            retry_storage(
                unit.refresh
            )  # others' reports may still be on their way, or go elsewhere
            for observer in self._observers:
                observer.unit_ended(unit)
