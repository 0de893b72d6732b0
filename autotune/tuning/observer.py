"""A run as its parent sees it: the monitor takes in what workers report, and tells observers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from autotune.models.shape import ModelShape
from autotune.spec.config import AnyConfig
from autotune.spec.device import Device
from autotune.studies.outcome import TrialResult
from autotune.studies.search.history import StudyHistory
from autotune.studies.storage.retry import retry_storage
from autotune.tuning.processes.signals import Interrupt
from autotune.tuning.time_line import DeviceTime
from autotune.tuning.tuning_study import TuningStudy
from autotune.tuning.workers.protocol import (
    FinalsMeasured,
    MeasureFinals,
    SearchFinished,
    StudyFinished,
    TrialFinished,
    TrialStarted,
)
from autotune.tuning.workers.supervisor import WorkerDied, WorkerSupervisor

WORKERS_LEAVE_S = 2.5
"""Seconds that an interrupted run waits for its workers."""


@dataclass(frozen=True, slots=True)
class ModelStudies:
    """A model of a run, and its studies; models of one layer share theirs."""

    name: str
    """As it was named: on the Hub, by a path, or by its shape."""
    label: str
    shares: Mapping[int, float]
    """Batch size → the share of a server's time that it stands for; empty without any."""
    shape: ModelShape
    studies: Sequence[TuningStudy]


@dataclass(frozen=True, slots=True)
class RunStart:
    """The facts of a run that is about to measure."""

    models: Sequence[ModelStudies]
    device: Device
    """The first of them: those of several kernels differ in their method."""
    studies: Sequence[TuningStudy]
    history: StudyHistory
    """Every study that samplers learn from."""
    output_dir: Path = Path("configs")
    """The folder of engine files."""


class RunObserver:
    """An observer of a run: each method is called when something happened, and does nothing
    unless a subclass overrides it. All are called in the parent's main thread."""

    def started(self, start: RunStart) -> None:
        """The studies are open; measuring begins."""

    def trial_asked(self, study: TuningStudy, worker: str, config: AnyConfig) -> None:
        """The device of the worker of this name turned to a config."""

    def trial_told(self, study: TuningStudy, config: AnyConfig, result: TrialResult) -> None:
        """A trial of this config ended."""

    def study_ended(self, study: TuningStudy) -> None:
        """A study has its measurements, or will get no more."""

    def finals_started(self, study: TuningStudy) -> None:
        """The search is over, and this study's finalists are about to be measured again."""

    def finals_measured(self, study: TuningStudy) -> None:
        """The finalists were measured again, where times are measured at all."""

    def tick(self) -> None:
        """Some time passed."""

    def interrupted(self, words: str) -> None:
        """The user asked to end. Called in a signal's handler: shows the words at once, if any."""

    def stopped(self) -> None:
        """The process is about to end at once, in a signal's handler."""

    def close(self, is_hurried: Callable[[], bool]) -> None:
        """Nothing more will happen. ``is_hurried`` says, at any moment, whether the user waits for
        the end."""


class RunMonitor:
    """Keeps the parent's studies as the workers' reports have them."""

    def __init__(self, studies: Sequence[TuningStudy], observers: Sequence[RunObserver]) -> None:
        self._studies = studies
        self._observers = observers
        self._at: dict[str, TuningStudy] = {}
        self._ended: set[int] = set()
        self._early: set[int] = set()
        """Studies whose finals were asked for during the search."""
        self.device_times: dict[str, DeviceTime] = {}
        """What each worker that has finished says of its device."""

    def search(self, supervisor: WorkerSupervisor, interrupt: Interrupt) -> None:
        """Listen until the workers have nothing left, or the user has interrupted."""
        while supervisor.is_at_work and interrupt.since_s <= WORKERS_LEAVE_S:
            if interrupt.requested:
                supervisor.leave()
            for worker, event in supervisor.listen():
                self._take(worker, event)
                if isinstance(event, StudyFinished) and event.position not in self._early:
                    self._early.add(event.position)
                    supervisor.measure_early(event.position, worker)
            for observer in self._observers:
                observer.tick()

    def measure_finals(self, supervisor: WorkerSupervisor, interrupt: Interrupt) -> None:
        """Have every study's finalists measured again, by whichever worker is free."""
        for _, event in supervisor.measure_finals(range(len(self._studies))):
            if interrupt.requested:
                supervisor.leave()
            if isinstance(event, MeasureFinals):
                for observer in self._observers:
                    observer.finals_started(self._studies[event.position])
            elif isinstance(event, FinalsMeasured):
                self._take_finals(event)

    def _take_finals(self, event: FinalsMeasured) -> None:
        study = self._studies[event.position]
        study.finalists = event.finalists
        for observer in self._observers:
            observer.finals_measured(study)

    def _take(self, worker: str, event: object) -> None:
        if isinstance(event, TrialStarted):
            self._move(worker, self._studies[event.position])
            for observer in self._observers:
                observer.trial_asked(self._studies[event.position], worker, event.config)
        elif isinstance(event, TrialFinished):
            study = self._studies[event.position]
            if event.entry is not None:
                study.view.note(event.entry)
            for observer in self._observers:
                observer.trial_told(study, event.config, event.result)
        elif isinstance(event, StudyFinished):
            self._end(event)
        elif isinstance(event, FinalsMeasured):
            self._take_finals(event)
        elif isinstance(event, SearchFinished):
            self.device_times[worker] = event.device_time
            self._move(worker, None)
        elif isinstance(event, WorkerDied):
            self._move(worker, None)

    def _move(self, worker: str, study: TuningStudy | None) -> None:
        """Count a worker at a study, and no more at the one before."""
        before = self._at.pop(worker, None)
        if before is not None:
            before.in_flight -= 1
        if study is not None:
            study.in_flight += 1
            self._at[worker] = study

    def _end(self, event: StudyFinished) -> None:
        study = self._studies[event.position]
        study.end = event.end
        if event.position not in self._ended:
            self._ended.add(event.position)
            retry_storage(study.view.read)  # others' reports may be on their way, or go elsewhere
            for observer in self._observers:
                observer.study_ended(study)
