"""Messages between a run's parent and its workers, and a worker's end of the link.

    parent               DescribeSpaces     StartSearch            MeasureFinals…        Leave
    worker   WorkerReady     SpacesDescribed    TrialStarted, TrialFinished, StudyFinished…
                                                SearchFinished         FinalsMeasured…

A worker that cannot go on for a reason that the user can mend sends the AutotuneError itself,
and whatever it logs travels as a LogRecord.
A study is named by its position in ``StartSearch.plans``.
"""

from __future__ import annotations

import queue
import threading
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from autotune.backends.gpu.providers import OURS
from autotune.backends.protocol import MeasurerOptions
from autotune.errors import AutotuneError
from autotune.settings import RunSettings
from autotune.spec.config import AnyConfig
from autotune.spec.device import Device
from autotune.spec.problem import Problem
from autotune.studies.lifecycle import StudyEnd
from autotune.studies.outcome import TrialResult
from autotune.studies.selection.finalists import Finalist
from autotune.studies.space import SearchSpace
from autotune.studies.trial_record import TrialRecord
from autotune.tuning.time_line import DeviceTime
from autotune.tuning.tuning_study import StudyPlan

_LAST = object()
_SEND_S = 2.0
"""Seconds that a parent that hears nothing may cost a worker that ends."""


@dataclass(frozen=True, slots=True)
class WorkerSpec:
    """The parts that a worker is started with."""

    device: str
    """Selector, of one GPU where it is one."""
    options: MeasurerOptions
    storage: str
    number: int
    """Its number among the run's workers."""
    name: str = ""
    """Its name for people: the GPU's index, or a count from 0, and the engine where one GPU has
    several workers."""
    log_level: int = 30
    sampler: str = ""
    """Name of the run's sampler, whose libraries load while the device opens."""


@dataclass(frozen=True, slots=True)
class DescribeSpaces:
    """A question: which configs does your device allow for these problems?"""

    problems: tuple[Problem, ...]
    guesses: int = 0
    """Most promising configs of each that are measured first, and may be compiled now."""


@dataclass(frozen=True, slots=True)
class StartSearch:
    """Tune these until nothing is left, or ``seconds`` of measuring have passed."""

    plans: tuple[StudyPlan, ...]
    settings: RunSettings
    seconds: float | None


@dataclass(frozen=True, slots=True)
class MeasureFinals:
    """Measure a study's finalists again: during the search between its trials, or after it."""

    position: int


@dataclass(frozen=True, slots=True)
class Leave:
    """Finish or abandon within a few seconds what is in work, and end."""


@dataclass(frozen=True, slots=True)
class WorkerReady:
    """The device is there."""

    device: Device


@dataclass(frozen=True, slots=True)
class SpacesDescribed:
    """The answer, in the problems' order, or why the device refuses one of them."""

    spaces: tuple[DescribedSpace, ...] | AutotuneError


@dataclass(frozen=True, slots=True)
class DescribedSpace:
    """What a device says of a problem before it is tuned; see ``Measurer``."""

    space: SearchSpace
    prior_us: tuple[float, ...] | None
    own_config: AnyConfig | None


@dataclass(frozen=True, slots=True)
class TrialStarted:
    """The device turned to this config."""

    position: int
    config: AnyConfig


@dataclass(frozen=True, slots=True)
class TrialFinished:
    """A trial has ended, and the storage has it."""

    position: int
    config: AnyConfig
    result: TrialResult
    entry: TrialRecord | None


@dataclass(frozen=True, slots=True)
class StudyFinished:
    """A study gets no more trials."""

    position: int
    end: StudyEnd | None
    """Why it ended before its target; None for one that reached it."""


@dataclass(frozen=True, slots=True)
class SearchFinished:
    """Nothing is left to do, or nothing more may be done."""

    device_time: DeviceTime
    """What the device did since the worker began."""


@dataclass(frozen=True, slots=True)
class FinalsMeasured:
    """The finalists; none where times have no noise."""

    position: int
    finalists: tuple[Finalist, ...]


@dataclass(frozen=True, slots=True)
class WorkerCrashed:
    """The worker cannot go on, and should have been able to."""

    trace: str


def worker_name(device: str, provider: str) -> str:
    """Return the name of a device's worker: that of the device, and whose kernel it measures
    unless it is ours."""
    return device if provider == OURS else f"{device} {provider}"


class ParentChannel:
    """A worker's view of its parent: takes reports, brings specs, may ask to leave."""

    def __init__(self, link: Connection) -> None:
        self._link = link
        self._waiting: list[Any] = []
        self._leave_at: float | None = None
        self.outbox: queue.SimpleQueue[object] = queue.SimpleQueue()
        """Messages to be sent."""
        self._sender = threading.Thread(target=self._send_all, name="reports", daemon=True)
        self._sender.start()

    def leave(self) -> None:
        """Leave as if the parent had asked for it."""
        self._leave_at = self._leave_at or time.monotonic()

    @property
    def requested(self) -> bool:
        """True once the parent has asked to leave, or is gone."""
        try:
            while self._leave_at is None and self._link.poll():
                self._take(self._link.recv())
        except (EOFError, OSError):
            self.leave()
        return self._leave_at is not None

    @property
    def since_s(self) -> float:
        """Seconds since then."""
        return 0.0 if self._leave_at is None else time.monotonic() - self._leave_at

    def finals(self) -> list[int]:
        """Take the positions of studies whose finalists are to be measured while others are
        searched."""
        asked = [m.position for m in self._waiting if isinstance(m, MeasureFinals)]
        self._waiting = [m for m in self._waiting if not isinstance(m, MeasureFinals)]
        return asked

    def send(self, message: object) -> None:
        """Thread-safe, and returns at once: a parent that draws a picture for seconds, while the
        link fills, must not hold up a GPU. One that is gone hears nothing."""
        self.outbox.put(message)

    def close(self) -> None:
        """Wait a little until everything is sent."""
        self.outbox.put(_LAST)
        self._sender.join(_SEND_S)

    def next(self) -> Any:
        """The next spec; None when it is time to end."""
        while not self._waiting and self._leave_at is None:
            try:
                if self._link.poll(1.0):  # returns, so that a signal's handler is heard
                    self._take(self._link.recv())
            except (EOFError, OSError):
                return None
        return self._waiting.pop(0) if self._waiting and self._leave_at is None else None

    def _send_all(self) -> None:
        while (message := self.outbox.get()) is not _LAST:
            try:
                self._link.send(message)
            except OSError:
                self.leave()
                return

    def _take(self, message: object) -> None:
        if isinstance(message, Leave):
            self.leave()
        else:
            self._waiting.append(message)
