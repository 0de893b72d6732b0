"""The parent's loop: takes in what the workers report, and shows it."""

from __future__ import annotations

from collections.abc import Sequence

from autotune.studies.storage.retry import retry_storage
from autotune.tune.observer import RunObserver
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


class RunMonitor:
    """Keeps the parent's studies as the workers' reports have them."""

    def __init__(self, studies: Sequence[TuningStudy], observers: Sequence[RunObserver]) -> None:
        self._studies = studies
        self._observers = observers
        self._at: dict[int, TuningStudy] = {}
        self._over: set[int] = set()
        self._seconds = self._busy_s = 0.0

    @property
    def busy(self) -> float | None:
        """Share of the workers' time in which their devices verified and timed."""
        return self._busy_s / self._seconds if self._seconds else None

    def work(self, supervisor: WorkerSupervisor, interrupt: Interrupt) -> None:
        """Until the workers have nothing left, or the user has interrupted."""
        while supervisor.is_at_work and interrupt.since_s <= LEAVE_S:
            if interrupt.requested:
                supervisor.leave()
            for number, event in supervisor.listen():
                self._take(number, event)
            for observer in self._observers:
                observer.tick()

    def settle(self, supervisor: WorkerSupervisor, interrupt: Interrupt) -> None:
        """The finalists of every study, by whichever worker is free."""
        for _, event in supervisor.settle(range(len(self._studies))):
            if interrupt.requested:
                supervisor.leave()
            if isinstance(event, MeasureFinals):
                for observer in self._observers:
                    observer.finals_started(self._studies[event.position])
            elif isinstance(event, FinalsMeasured):
                study = self._studies[event.position]
                study.note_finalists(event.finalists)
                for observer in self._observers:
                    observer.finals_measured(study)

    def _take(self, number: int, event: object) -> None:
        if isinstance(event, TrialStarted):
            self._turn(number, self._studies[event.position])
            for observer in self._observers:
                observer.trial_asked(self._studies[event.position], number, event.config)
        elif isinstance(event, TrialFinished):
            study = self._studies[event.position]
            if event.entry is not None:
                study.note(event.entry)
            for observer in self._observers:
                observer.trial_told(study, event.result)
        elif isinstance(event, StudyFinished):
            self._end(event)
        elif isinstance(event, SearchFinished):
            self._seconds += event.spent.seconds
            self._busy_s += event.spent.busy_s
            self._turn(number, None)
        elif isinstance(event, WorkerDied):
            self._turn(number, None)

    def _turn(self, number: int, study: TuningStudy | None) -> None:
        """A worker turns to a study, away from the one before."""
        before = self._at.pop(number, None)
        if before is not None:
            before.note_worker(-1)
        if study is not None:
            study.note_worker(1)
            self._at[number] = study

    def _end(self, event: StudyFinished) -> None:
        study = self._studies[event.position]
        study.note_end(event.end)
        if event.position not in self._over:
            self._over.add(event.position)
            retry_storage(
                study.refresh
            )  # others' reports may still be on their way, or go elsewhere
            for observer in self._observers:
                observer.study_ended(study)
