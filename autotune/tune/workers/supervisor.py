"""A run's workers as its parent has them: started, listened to, started again when they die."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from multiprocessing.connection import wait

from autotune.errors import AutotuneError, DeviceError
from autotune.intervals import LULL_S
from autotune.settings import RunSettings
from autotune.spec.device import Device
from autotune.spec.problem import Problem
from autotune.studies.space import SearchSpace
from autotune.tune.processes.killable import ProcessHandle, exit_words
from autotune.tune.tuning_study import StudyPlan
from autotune.tune.workers.protocol import (
    DescribeSpaces,
    FinalsMeasured,
    Leave,
    MeasureFinals,
    SearchFinished,
    SpacesDescribed,
    StartSearch,
    TrialFinished,
    WorkerCrashed,
    WorkerReady,
    WorkerSpec,
)
from autotune.tune.workers.worker_process import start_worker

_log = logging.getLogger(__name__)

_DEATHS = 3
"""A worker that died so often without telling anything between is not started again."""
_WORKER_GRACE_S, _LEAST_GRACE_S = 3.0, 0.2
"""Seconds that a worker may take to end once it was asked to leave; children get 2 s of it."""


Start = Callable[[WorkerSpec], ProcessHandle]
"""Starts a worker anywhere."""


@dataclass(frozen=True, slots=True)
class WorkerDied:
    """A worker has ended before its work; another may take its place."""


Event = tuple[int, object]
"""Number of the worker, and its message (see ``protocol``) or WorkerDied."""


class _State(Enum):
    STARTING = "starting"
    IDLE = "idle"
    BUSY = "busy"
    GONE = "gone"


class _WorkerHandle:
    """One worker through all its lives."""

    def __init__(self, spec: WorkerSpec, start: Start) -> None:
        self.spec = spec
        self._start = start
        self.device: Device | None = None
        self.deaths = 0
        self.is_done = False
        self.start()

    def start(self) -> None:
        self.state = _State.STARTING
        self.process = self._start(self.spec)

    def send(self, message: object) -> None:
        try:
            self.process.link.send(message)
        except OSError:
            return  # the next reading finds the link closed

    def end(self, grace_s: float = _WORKER_GRACE_S) -> str:
        """End the process, at the latest in ``grace_s``; return how it ended, in words."""
        self.state = _State.GONE
        return exit_words(self.process.kill(grace_s))


class WorkerSupervisor:
    """All workers of a run; ``close`` ends them."""

    def __init__(self, specs: Sequence[WorkerSpec], start: Start = start_worker) -> None:
        self._workers = [_WorkerHandle(spec, start) for spec in specs]
        self._begin: tuple[StartSearch, float] | None = None
        self._left_at: float | None = None

    def ready(self) -> Device:
        """The device that all have; waits until they have it. Raises DeviceError where they are
        not alike, or cannot be used, and what a worker refused with."""
        for _ in self._until(lambda: all(w.device is not None for w in self._workers)):
            pass
        devices = [w.device for w in self._workers if w.device is not None]
        if len(set(devices)) > 1:
            names = ", ".join(
                f"{w.spec.device} is {w.device.name}" for w in self._workers if w.device
            )
            raise DeviceError(
                f"one run needs GPUs of one kind, for times to compare: {names}. "
                "Name those of one kind with --gpus, and run again for the others"
            )
        return devices[0]

    def describe(
        self, problems: Sequence[Problem]
    ) -> tuple[tuple[SearchSpace, tuple[float, ...] | None], ...]:
        """Space and guesses of each problem. Raises what the worker refused with."""
        found: list[SpacesDescribed] = []
        question = DescribeSpaces(tuple(problems))
        self._workers[0].send(question)
        for _, message in self._until(lambda: bool(found)):
            if isinstance(message, SpacesDescribed):
                found.append(message)
            elif isinstance(message, WorkerReady | WorkerDied):
                # the one that was asked may be gone, or have come again
                idle = [worker for worker in self._workers if worker.state is _State.IDLE]
                if idle:
                    idle[0].send(question)
        return found[0].spaces

    def begin(
        self, plans: Sequence[StudyPlan], settings: RunSettings, seconds: float | None
    ) -> None:
        """Set everybody to work."""
        self._begin = StartSearch(tuple(plans), settings, seconds), time.monotonic()
        for worker in self._workers:
            self._set_to_work(worker)

    @property
    def is_at_work(self) -> bool:
        """True while somebody is, or is to be."""
        return any(w.state is not _State.GONE and not w.is_done for w in self._workers)

    def measure_finals(self, positions: Sequence[int]) -> Iterator[Event]:
        """Have finalists measured by whoever is free; yields as ``listen``, None in a lull."""
        waiting, in_work = list(positions), dict[int, int]()
        while (waiting or in_work) and self._left_at is None:
            for index, worker in enumerate(self._workers):
                if worker.state is _State.IDLE and waiting:
                    in_work[index] = waiting.pop(0)
                    worker.state = _State.BUSY
                    worker.send(MeasureFinals(in_work[index]))
                    yield worker.spec.number, MeasureFinals(in_work[index])
            for index, event in self._listen():
                if isinstance(event, FinalsMeasured):
                    in_work.pop(index, None)
                    self._workers[index].state = _State.IDLE
                elif isinstance(event, WorkerDied):
                    in_work.pop(index, None)  # its finalists stay as they were
                yield self._workers[index].spec.number, event
            if all(w.state is _State.GONE for w in self._workers):
                return

    def listen(self) -> list[Event]:
        """Return what workers said within ``LULL_S``. Raises what a worker refused with, and
        DeviceError where workers die faster than they work."""
        return [(self._workers[index].spec.number, event) for index, event in self._listen()]

    def leave(self) -> None:
        """Ask everybody to finish or abandon within a few seconds."""
        if self._left_at is None:
            self._left_at = time.monotonic()
            for worker in self._workers:
                worker.send(Leave())

    def close(self) -> None:
        """End everybody; who does not end in time is killed."""
        self.leave()
        assert self._left_at is not None
        until = self._left_at + _WORKER_GRACE_S
        for worker in self._workers:
            if worker.state is not _State.GONE:
                worker.end(max(until - time.monotonic(), _LEAST_GRACE_S))

    def _until(self, is_enough: Callable[[], bool]) -> Iterator[Event]:
        while not is_enough():
            yield from self._listen()

    def _listen(self) -> list[Event]:
        links = {
            w.process.link: i for i, w in enumerate(self._workers) if w.state is not _State.GONE
        }
        events: list[Event] = []
        for ready in wait(list(links), timeout=LULL_S) if links else ():
            index = links[ready]  # type: ignore[index]
            events += [(index, event) for event in self._hear(self._workers[index])]
        return events

    def _hear(self, worker: _WorkerHandle) -> Iterator[object]:
        try:
            while worker.state is not _State.GONE and worker.process.link.poll():
                message = worker.process.link.recv()
                self._note(worker, message)
                yield message
        except (EOFError, OSError):
            self._on_end(worker)
            yield WorkerDied()

    def _note(self, worker: _WorkerHandle, message: object) -> None:
        if isinstance(message, AutotuneError):
            self._on_refusal(worker, message)
        if isinstance(message, WorkerCrashed):
            _log.error("worker %d failed:\n%s", worker.spec.number, message.trace)
        elif isinstance(message, logging.LogRecord):
            _log.handle(message)
        elif isinstance(message, WorkerReady):
            worker.device = message.device
            worker.state = _State.IDLE
            if self._begin is not None and not worker.is_done:
                self._set_to_work(worker)
        elif isinstance(message, TrialFinished):
            worker.deaths = 0
        elif isinstance(message, SearchFinished):
            worker.is_done = True
            worker.state = _State.IDLE

    def _on_refusal(self, worker: _WorkerHandle, error: AutotuneError) -> None:
        """A GPU that fails in the middle of the work must not end that of others."""
        others = (w for w in self._workers if w is not worker)
        is_alone = all(w.state is _State.GONE for w in others)
        if self._begin is None or is_alone or not isinstance(error, DeviceError):
            raise error
        _log.error("worker %d: %s", worker.spec.number, error)
        worker.deaths = _DEATHS

    def _on_end(self, worker: _WorkerHandle) -> None:
        words = worker.end()
        if self._left_at is not None or worker.is_done:
            return
        worker.deaths += 1
        number = worker.spec.number
        if worker.device is not None and worker.deaths < _DEATHS:
            _log.warning("worker %d died (%s); another takes its place", number, words)
            worker.start()
            return
        _log.error("worker %d died (%s) and is not started again", number, words)
        if all(w.state is _State.GONE and not w.is_done for w in self._workers):
            raise DeviceError(
                f"no worker lives: the last died with {words}. Run 'autotune doctor', and again "
                "with --verbose for its own words"
            )

    def _set_to_work(self, worker: _WorkerHandle) -> None:
        assert self._begin is not None
        begin, at = self._begin
        left = None if begin.seconds is None else begin.seconds - (time.monotonic() - at)
        worker.state = _State.BUSY
        worker.send(StartSearch(begin.plans, begin.settings, left))
