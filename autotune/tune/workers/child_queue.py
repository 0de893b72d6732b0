"""Trials in the hands of a child: served in order, tried again when the child dies."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from autotune.spec.problem import Problem
from autotune.studies.outcome import Outcome, TrialResult
from autotune.studies.search.pruning import Stop
from autotune.studies.storage.transactions import Asked
from autotune.tune.processes.child import Child, ChildFault
from autotune.tune.workers.protocol import WorkerTime

_log = logging.getLogger(__name__)

_DEATHS = 2
"""A config that ended so many children is not tried again."""
_KILLS = 4
"""Nor one that was in hand when so many were killed: the memory that it takes may be the cause."""
GROWTH_BYTES = 4 * 2**30
"""A child that has grown by so much since its first answer is started afresh."""


@dataclass(slots=True)
class InFlightTrial:
    """A trial between ask and tell."""

    position: int
    """Of its study."""
    problem: Problem
    asked: Asked
    stop: Stop | None = None
    deaths: int = 0
    """Children that it has cost."""
    kills: int = 0
    """Children that somebody killed meanwhile."""
    ahead_s: float = 0.0
    """Seconds that the pool compiled for it."""


class ChildQueue:
    """The child's queue. Its first trial is being measured."""

    def __init__(
        self,
        child: Child,
        *,
        run_timeout_s: float,
        timed_out: Outcome,
        growth_bytes: int,
        on_start: Callable[[InFlightTrial], None],
    ) -> None:
        """``timed_out`` is the outcome of no answer within ``run_timeout_s``; ``on_start`` hears of
        each trial that the child turns to."""
        self._child = child
        self._run_timeout_s = run_timeout_s
        self._timed_out = timed_out
        self._growth_bytes = growth_bytes
        self._on_start = on_start
        self._queue: deque[InFlightTrial] = deque()
        self._base_bytes = 0
        self._first_at: float | None = None
        self._last_at = self._busy_s = 0.0
        self.usual_s = 0.0
        """Seconds of one trial, smoothed."""

    def __len__(self) -> int:
        return len(self._queue)

    @property
    def child(self) -> Child:
        return self._child

    @property
    def spent(self) -> WorkerTime:
        """Of all trials so far."""
        if self._first_at is None:
            return WorkerTime(0.0, 0.0)
        return WorkerTime(max(self._last_at - self._first_at, 0.0), self._busy_s)

    @property
    def is_bloated(self) -> bool:
        """True where the child has taken much memory: it is replaced when its queue is empty."""
        grown = self._child.resident_bytes - self._base_bytes
        return bool(self._base_bytes) and grown > self._growth_bytes

    def submit(self, trial: InFlightTrial) -> None:
        """Returns at once."""
        self._first_at = self._first_at or time.monotonic()
        self._queue.append(trial)
        self._send(trial)
        if len(self._queue) == 1:
            self._on_start(trial)

    def collect(self) -> Iterator[tuple[InFlightTrial, TrialResult]]:
        """Every trial that has ended by now. Waits for none."""
        while self._queue and self._child.connection.poll():
            yield from self._receive()
        if self._child.waited_s > self._run_timeout_s:
            reason = f"no answer in {self._run_timeout_s:g} s"
            yield from self._on_death(TrialResult(self._timed_out, reason=reason))

    def drop(self) -> list[InFlightTrial]:
        """Everything, ended at once."""
        left = list(self._queue)
        self._queue.clear()
        if left:
            self._child.kill()
        return left

    def _receive(self) -> Iterator[tuple[InFlightTrial, TrialResult]]:
        answer = self._child.receive()
        if isinstance(answer, ChildFault):
            _log.debug("child failed: %s\n%s", answer.reason, answer.detail)
            died = TrialResult(Outcome.CRASHED, reason=answer.reason)
            yield from self._on_death(died, is_kill=answer.is_kill)
            return
        assert isinstance(answer, TrialResult)
        on_device_s = answer.verify_s + answer.measure_s
        self.usual_s = smoothed(self.usual_s, answer.compile_s + on_device_s)
        self._busy_s += on_device_s
        self._last_at = time.monotonic()
        self._base_bytes = self._base_bytes or self._child.resident_bytes
        yield self._queue.popleft(), answer
        self._go_on(afresh=not self._queue and self.is_bloated)

    def _on_death(
        self, result: TrialResult, *, is_kill: bool = False
    ) -> Iterator[tuple[InFlightTrial, TrialResult]]:
        """The trial that was measured is tried once more, since it may be innocent, and more often
        where somebody killed the child. Those behind it are innocent."""
        first = self._queue[0]
        first.kills += is_kill
        first.deaths += not is_kill
        if first.deaths >= _DEATHS or first.kills >= _KILLS:
            yield self._queue.popleft(), result
        self._go_on(afresh=True)

    def _go_on(self, *, afresh: bool) -> None:
        if afresh:
            self._child.restart()
            self._base_bytes = 0
            for trial in self._queue:
                self._send(trial)
        if self._queue:
            self._on_start(self._queue[0])

    def _send(self, trial: InFlightTrial) -> None:
        self._child.submit("measure", trial.problem, trial.asked.config, stop=trial.stop)


def smoothed(before: float, now: float) -> float:
    """A running mean in which the last few count."""
    return now if not before else 0.7 * before + 0.3 * now
