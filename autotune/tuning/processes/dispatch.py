"""Calls on child processes: a time limit for each, and a dead or hung child costs one call.

A dead child is a result of the config that it measured.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, Generic, TypeVar

from autotune.backends.protocol import Measurer
from autotune.intervals import LULL_S
from autotune.spec.config import AnyConfig
from autotune.spec.problem import Problem
from autotune.studies.outcome import Outcome, TrialResult
from autotune.tuning.processes.child import Call, Child, ChildFault

_log = logging.getLogger(__name__)

Item = TypeVar("Item")
Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Answer(Generic[Item, Value]):
    """The end of a call."""

    item: Item
    """The subject of the call."""
    value: Value | ChildFault
    deaths: int = 0
    """Children that the call has ended."""


@dataclass(slots=True)
class _Submitted(Generic[Item]):
    item: Item
    call: Call[Any]
    deaths: int = 0
    kills: int = 0


class CallQueue(Generic[Item, Value]):
    """Calls in the hands of one child, served in order without a pause between two. The first is
    being served; where it ends the child, those behind it are innocent and served by another."""

    def __init__(
        self,
        child: Child,
        *,
        timeout_s: float,
        deaths: int = 1,
        kills: int = 1,
        growth_bytes: int | None = None,
        on_start: Callable[[Item], None] = lambda _: None,
    ) -> None:
        """A call that takes longer than ``timeout_s`` is killed with its child. Its fault is its
        answer once ``deaths`` children have died by themselves, hung or raised over it, or somebody
        has killed ``kills``: the memory that it takes may be the cause. A child that has grown by
        ``growth_bytes`` since its first answer is replaced when its queue is empty. ``on_start``
        hears of each item that the child turns to."""
        self._child = child
        self._timeout_s = timeout_s
        self._deaths, self._kills = deaths, kills
        self._growth_bytes = growth_bytes
        self._on_start = on_start
        self._queue: deque[_Submitted[Item]] = deque()
        self._base_bytes = 0

    def __len__(self) -> int:
        return len(self._queue)

    @property
    def connection(self) -> Connection:
        """The child's link; becomes readable when ``collect`` may have an answer."""
        return self._child.process.link

    @property
    def is_bloated(self) -> bool:
        """True where the child has taken too much memory: let the queue run empty."""
        if self._growth_bytes is None or not self._base_bytes:
            return False
        return self._child.process.resident_bytes - self._base_bytes > self._growth_bytes

    def submit(self, item: Item, call: Call[Value]) -> None:
        """Append a call. Returns at once."""
        self._queue.append(_Submitted(item, call))
        self._child.submit(call)
        if len(self._queue) == 1:
            self._on_start(item)

    def collect(self) -> Iterator[Answer[Item, Value]]:
        """Yield the answer of every call that has ended by now. Raises the AutotuneError of one."""
        while self._queue and self._child.process.link.poll():
            yield from self._receive()
        if self._child.waited_s > self._timeout_s:
            reason = f"no answer in {self._timeout_s:g} s"
            yield from self._on_fault(ChildFault(reason, is_timeout=True))

    def drop(self) -> list[Item]:
        """Give up every call, and kill a child that serves one. Returns the items."""
        left = [submitted.item for submitted in self._queue]
        self._queue.clear()
        if left:
            self._child.kill()
        return left

    def _receive(self) -> Iterator[Answer[Item, Value]]:
        value = self._child.receive()
        if isinstance(value, ChildFault):
            _log.debug("child failed: %s\n%s", value.reason, value.detail)
            yield from self._on_fault(value)
            return
        if self._growth_bytes is not None:
            self._base_bytes = self._base_bytes or self._child.process.resident_bytes
        first = self._queue.popleft()
        yield Answer(first.item, value, first.deaths)
        self._go_on(afresh=not self._queue and self.is_bloated)

    def _on_fault(self, fault: ChildFault) -> Iterator[Answer[Item, Value]]:
        """Try the call that was served again unless it has cost too many: it may be innocent."""
        first = self._queue[0]
        first.kills += fault.is_kill
        first.deaths += not fault.is_kill
        if first.deaths >= self._deaths or first.kills >= self._kills:
            self._queue.popleft()
            yield Answer(first.item, fault, first.deaths)
        self._go_on(afresh=True)

    def _go_on(self, *, afresh: bool) -> None:
        if afresh:
            self._child.restart()
            self._base_bytes = 0
            for submitted in self._queue:
                self._child.submit(submitted.call)
        if self._queue:
            self._on_start(self._queue[0].item)


def answers(
    children: Sequence[Child],
    calls: Iterator[tuple[Item, Call[Value]]],
    *,
    timeout_s: float,
    is_over: Callable[[], bool] = lambda: False,
    leave_s: float = 5.0,
) -> Iterator[Answer[Item, Value]]:
    """Yield every call's answer, as they come. ``calls`` is read when a child is idle, so a call
    may depend on the answers so far.

    Once ``is_over``, nothing more is called, and children whose calls do not end in ``leave_s`` are
    killed. Raises the AutotuneError of a call.
    """
    queues = [CallQueue[Item, Value](child, timeout_s=timeout_s) for child in children]
    waited_s = 0.0
    while True:
        over = is_over()
        for queue in queues:
            if not over and not queue and (following := next(calls, None)) is not None:
                queue.submit(*following)
        busy = [queue for queue in queues if queue]
        if not busy:
            return
        ready = wait([queue.connection for queue in busy], timeout=LULL_S)
        for queue in busy:
            yield from queue.collect()
        waited_s = waited_s + LULL_S if over and not ready else 0.0
        if waited_s > leave_s:
            for queue in busy:
                queue.drop()
            return


def answer_to(child: Child, call: Call[Value], timeout_s: float) -> Value | ChildFault:
    """Return the answer to one call on a child that does nothing else. A child that dies or takes
    longer is started afresh. Raises the AutotuneError of the call."""
    [answer] = answers([child], iter([(None, call)]), timeout_s=timeout_s)
    return answer.value


def result_of(
    answer: TrialResult | ChildFault, timed_out: Outcome = Outcome.RUN_TIMEOUT
) -> TrialResult:
    """Return what a child has measured, or the result of a child that died, failed, or took too
    long, whose outcome is ``timed_out``."""
    if isinstance(answer, TrialResult):
        return answer
    return TrialResult(timed_out if answer.is_timeout else Outcome.CRASHED, reason=answer.reason)


def measure_in(child: Child, timeout_s: float, problem: Problem, config: AnyConfig) -> TrialResult:
    """Measure a config in the child. Where that dies, fails or takes too long, that is the outcome,
    and the child is started afresh."""
    return result_of(answer_to(child, Call.of(Measurer.measure, problem, config), timeout_s))


def measure_interleaved_in(
    child: Child,
    timeout_s: float,
    problem: Problem,
    configs: Sequence[AnyConfig],
    *,
    is_over: Callable[[], bool] = lambda: False,
) -> list[TrialResult]:
    """Measure configs interleaved in the child. Where it dies, fails, or takes longer than
    ``timeout_s``, each config is measured by itself, with as much time: which one is to blame then
    shows. What is left when ``is_over`` says so counts as crashed."""
    call = Call.of(Measurer.measure_interleaved, problem, tuple(configs))
    answer = answer_to(child, call, timeout_s)
    if not isinstance(answer, ChildFault):
        return list(answer)
    return [
        TrialResult(Outcome.CRASHED, reason="interrupted")
        if is_over()
        else measure_in(child, timeout_s, problem, config)
        for config in configs
    ]
