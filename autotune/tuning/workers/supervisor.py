"""A run's workers as its parent has them: started, listened to, started again when they die."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from multiprocessing.connection import wait

from autotune.errors import AutotuneError, DeviceError
from autotune.intervals import LULL_S
from autotune.settings import RunSettings
from autotune.spec.device import Device
from autotune.spec.problem import Problem
from autotune.tuning.processes.killable import ProcessHandle, exit_words
from autotune.tuning.tuning_study import StudyPlan
from autotune.tuning.workers.protocol import (
    DescribedSpace,
    DescribeSpaces,
    FinalsMeasured,
    Leave,
    MeasureFinals,
    SearchFinished,
    SpacesDescribed,
    StartSearch,
    TrialFinished,
    TrialStarted,
    WorkerCrashed,
    WorkerReady,
    WorkerSpec,
)
from autotune.tuning.workers.worker_process import start_worker

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


Described = tuple[DescribedSpace, ...] | AutotuneError
"""What a device says of problems, in their order, or why it refuses one of them."""

_Question = tuple[str, DescribeSpaces]

Event = tuple[str, object]
"""Name of the worker, and its message (see ``protocol``) or WorkerDied."""


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
        self.early = 0
        """Finals that it was asked for during the search."""
        self.is_refused = False
        """True for one whose provider was left out."""
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

    def __init__(
        self,
        specs: Sequence[WorkerSpec],
        start: Start = start_worker,
        may_fail: Collection[str] = (),
        check: Callable[[], None] = lambda: None,
    ) -> None:
        """Providers that ``may_fail`` are left out where their workers cannot begin. ``check``
        raises where it is no more of use to wait for a device."""
        self._check = check
        self.judge: Callable[[], None] = lambda: None
        """Called when a worker has crashed; raises where it was not the worker's fault."""
        self._start = start
        self._may_fail = may_fail
        self.refused: dict[str, str] = {}
        """Provider that was left out → why, in words."""
        self._workers = [_WorkerHandle(spec, start) for spec in specs]
        self._questions: list[_Question] = []
        self._asked: dict[_Question, _WorkerHandle] = {}
        """Question → the worker that has it; each has one at a time."""
        self._described: dict[_Question, Described] = {}
        self._begin: StartSearch | None = None
        self._measuring_since: float | None = None
        self._left_at: float | None = None

    def add(self, specs: Sequence[WorkerSpec]) -> None:
        """Start more workers."""
        self._workers += [_WorkerHandle(spec, self._start) for spec in specs]

    def ready(self, on_ready: Callable[[str, Device], None] = lambda *_: None) -> dict[str, Device]:
        """The device that all have, as each provider measures on it; waits until they have it.
        ``on_ready`` hears of each provider's first one at once. Those whose provider may fail and
        does are left out, see ``refused``. Raises DeviceError where they are not alike, or cannot
        be used, and what a worker refused with."""
        told: set[str] = set()
        while any(w.device is None and w.state is not _State.GONE for w in self._workers):
            self._check()
            self._listen()
            for worker in self._workers:
                provider = worker.spec.options.provider
                if worker.device is not None and provider not in told:
                    told.add(provider)
                    on_ready(provider, worker.device)
            self._put_questions()
        found: dict[str, Device] = {}
        for worker in self._workers:
            if worker.device is None or worker.is_refused:
                continue
            device = found.setdefault(worker.spec.options.provider, worker.device)
            if device != worker.device:
                raise DeviceError(
                    f"one run needs GPUs of one kind, for times to compare: {self._device_names()}"
                    ". Name those of one kind with --gpus, and run again for the others"
                )
        return found

    def describe(
        self, questions: Sequence[tuple[str, Sequence[Problem]]], guesses: int = 0
    ) -> list[Described]:
        """Return what a device says of each question: a provider, and problems; ``guesses`` as
        DescribeSpaces has it. Raises what a worker ended with."""
        self.ask(questions, guesses)
        while set(self._questions) - self._described.keys():
            self._check()
            self._put_questions()
            self._listen()
        return [self._described[question] for question in self._questions]

    def ask(self, questions: Sequence[tuple[str, Sequence[Problem]]], guesses: int = 0) -> None:
        """Ask for what ``describe`` returns, as soon as a provider's devices are there."""
        self._questions = [(name, DescribeSpaces(tuple(p), guesses)) for name, p in questions]

    def _put_questions(self) -> None:
        """Give each open question to a worker of its provider that has nothing to do."""
        for question in self._questions:
            if question in self._described or question in self._asked:
                continue
            provider, message = question
            for worker in self._workers:
                is_free = worker.state is _State.IDLE and worker not in self._asked.values()
                if is_free and worker.spec.options.provider == provider:
                    self._asked[question] = worker
                    worker.send(message)
                    break

    def _device_names(self) -> str:
        named = {w.spec.device: w.device.name for w in self._workers if w.device}
        return ", ".join(f"{selector} is {name}" for selector, name in named.items())

    def begin(
        self, plans: Sequence[StudyPlan], settings: RunSettings, seconds: float | None
    ) -> None:
        """Set everybody to work, for ``seconds`` since the first measurement."""
        self._begin = StartSearch(tuple(plans), settings, seconds)
        for worker in self._workers:
            if not worker.is_refused:
                self._set_to_work(worker)

    def measure_early(self, position: int, name: str) -> None:
        """Have a finished study's finalists measured while others are searched: by a worker that
        has nothing left to search, else, between its trials, by the one of this name, whose device
        may hold the study's tensors. Nobody need do so."""
        if self._begin is None or self._left_at is not None:
            return
        provider = self._begin.plans[position].job.provider
        able = [w for w in self._workers if w.spec.options.provider == provider]
        done = [worker for worker in able if worker.state is _State.IDLE and worker.is_done]
        busy = [w for w in able if w.state is _State.BUSY and w.spec.name == name]
        for worker in (sorted(done, key=lambda worker: worker.early) or busy)[:1]:
            worker.early += 1
            worker.send(MeasureFinals(position))

    @property
    def is_at_work(self) -> bool:
        """True while somebody is, or is to be."""
        return any(w.state is not _State.GONE and not w.is_done for w in self._workers)

    def measure_finals(self, positions: Sequence[int]) -> Iterator[Event]:
        """Have finalists measured by whoever is free; yields as ``listen``, None in a lull."""
        waiting, in_work = list(positions), dict[int, int]()
        while (waiting or in_work) and self._left_at is None:
            for index, worker in enumerate(self._workers):
                position = self._next_of(worker, waiting)
                if position is not None:
                    waiting.remove(position)
                    in_work[index] = position
                    worker.state = _State.BUSY
                    worker.send(MeasureFinals(position))
                    yield worker.spec.name, MeasureFinals(position)
            for index, event in self._listen():
                if isinstance(event, FinalsMeasured):
                    if in_work.get(index) == event.position:  # another was asked for in the search
                        del in_work[index]
                        self._workers[index].state = _State.IDLE
                elif isinstance(event, WorkerDied):
                    in_work.pop(index, None)  # its finalists stay as they were
                yield self._workers[index].spec.name, event
            if not in_work and not self._may_take(waiting):
                return  # their workers are gone

    def _may_take(self, positions: Sequence[int]) -> bool:
        """True while somebody can measure one of these, or may come to."""
        return any(
            worker.state is _State.STARTING or self._next_of(worker, positions) is not None
            for worker in self._workers
        )

    def _next_of(self, worker: _WorkerHandle, positions: Sequence[int]) -> int | None:
        """Return the first of the studies that the worker can measure, if it is free."""
        if worker.state is not _State.IDLE or self._begin is None:
            return None
        plans, provider = self._begin.plans, worker.spec.options.provider
        return next((p for p in positions if plans[p].job.provider == provider), None)

    def listen(self) -> list[Event]:
        """Return what workers said within ``LULL_S``. Raises what a worker refused with, and
        DeviceError where workers die faster than they work."""
        return [(self._workers[index].spec.name, event) for index, event in self._listen()]

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
                grace_s = 0.0 if worker.state is _State.STARTING else until - time.monotonic()
                worker.end(max(grace_s, _LEAST_GRACE_S))

    def _listen(self) -> list[tuple[int, object]]:
        links = {
            w.process.link: i for i, w in enumerate(self._workers) if w.state is not _State.GONE
        }
        events: list[tuple[int, object]] = []
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
            self.judge()
            _log.error("worker %s failed:\n%s", worker.spec.name, message.trace)
        elif isinstance(message, logging.LogRecord):
            _log.handle(message)
        elif isinstance(message, WorkerReady):
            worker.device = message.device
            worker.state = _State.IDLE
            if self._begin is not None and not worker.is_done:
                self._set_to_work(worker)
        elif isinstance(message, TrialStarted):
            self._measuring_since = self._measuring_since or time.monotonic()
        elif isinstance(message, SpacesDescribed):
            question = next(q for q, asked in self._asked.items() if asked is worker)
            del self._asked[question]
            self._described[question] = message.spaces
        elif isinstance(message, TrialFinished):
            worker.deaths = 0
        elif isinstance(message, SearchFinished):
            worker.is_done = True
            worker.state = _State.IDLE

    def _on_refusal(self, worker: _WorkerHandle, error: AutotuneError) -> None:
        """A GPU that fails in the middle of the work must not end that of others, nor an engine
        that cannot be used the whole run."""
        if self._leave_out(worker, str(error)):
            return
        others = (w for w in self._workers if w is not worker)
        is_alone = all(w.state is _State.GONE for w in others)
        if self._begin is None or is_alone or not isinstance(error, DeviceError):
            raise error
        _log.error("worker %s: %s", worker.spec.name, error)
        worker.deaths = _DEATHS

    def _on_end(self, worker: _WorkerHandle) -> None:
        words = worker.end()
        asked = self._asked.items()
        self._asked = {q: each for q, each in asked if each is not worker}  # others are asked
        if self._left_at is not None or worker.is_done or worker.is_refused:
            return
        if self._leave_out(worker, f"its process died ({words})"):
            return
        worker.deaths += 1
        number = worker.spec.name
        if worker.device is not None and worker.deaths < _DEATHS:
            _log.warning("worker %s died (%s); another takes its place", number, words)
            worker.start()
            return
        _log.error("worker %s died (%s) and is not started again", number, words)
        if not self._may_go_on(worker.spec.options.provider):
            raise DeviceError(
                f"no worker lives: the last died with {words}. Run 'autotune doctor', and again "
                "with --verbose for its own words"
            )

    def _may_go_on(self, provider: str) -> bool:
        """True while somebody lives or is done; before the search, while each provider has one."""
        return any(
            w.state is not _State.GONE or w.is_done
            for w in self._workers
            if self._begin is not None or w.spec.options.provider == provider
        )

    def _leave_out(self, worker: _WorkerHandle, reason: str) -> bool:
        """Go on without a provider that may fail and has not begun; False for any other."""
        provider = worker.spec.options.provider
        if worker.device is not None or provider not in self._may_fail:
            return False
        self.refused.setdefault(provider, reason)
        for each in self._workers:
            if each.spec.options.provider == provider and not each.is_refused:
                each.is_refused = True
                each.end(_LEAST_GRACE_S)
        return True

    def _set_to_work(self, worker: _WorkerHandle) -> None:
        assert self._begin is not None
        left = self._begin.seconds
        if left is not None and self._measuring_since is not None:
            left -= time.monotonic() - self._measuring_since
        worker.state = _State.BUSY
        worker.send(replace(self._begin, seconds=left))
