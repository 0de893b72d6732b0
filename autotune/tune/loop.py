"""The loop: ask for whoever is idle, tell whoever answers, until every unit has its count."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait
from typing import Protocol

from autotune.kernels.config import AnyConfig
from autotune.kernels.device import DeviceKind
from autotune.studies.objective import Asked, abandon, ask, is_exhausted, tell
from autotune.studies.outcome import Outcome, TrialResult
from autotune.tune.child import Child, ChildFault
from autotune.tune.interrupt import Interrupt
from autotune.tune.plan import Unit

_log = logging.getLogger(__name__)
_POLL_S = 0.2
_LEAVE_S = 5.0
"""How long an interrupted run waits for the trials in flight."""
_FAILURES_IN_A_ROW = 40
"""So many failures with nothing measured between them end a study: something else is wrong."""


class Observer(Protocol):
    """Whoever wants to see what happens: a display, a log."""

    def trial_asked(self, unit: Unit, worker: int, config: AnyConfig) -> None:
        """A config went to the child of this number."""

    def trial_told(self, unit: Unit, result: TrialResult) -> None:
        """A trial ended."""

    def unit_ended(self, unit: Unit) -> None:
        """A study has its measurements, or will get no more."""

    def tick(self) -> None:
        """Time passed."""


@dataclass(slots=True)
class _Work:
    """What one child has in hand."""

    unit: Unit
    asked: Asked


class Loop:
    """Runs units on children. The storage is up to date after every step."""

    def __init__(
        self,
        units: Sequence[Unit],
        children: Sequence[Child],
        observers: Sequence[Observer],
        interrupt: Interrupt,
        *,
        run_timeout_s: float,
        stop_gain: float = 0.0,
        deadline: float | None = None,
    ) -> None:
        """``stop_gain`` ends a study whose sampler expects to save less (0: never); ``deadline``
        is a ``time.monotonic()`` value after which nothing more is asked."""
        self._units = units
        self._children = children
        self._observers = observers
        self._interrupt = interrupt
        self._run_timeout_s = run_timeout_s
        self._stop_gain = stop_gain
        self._deadline = deadline
        self._work: dict[Child, _Work] = {}
        self._ended: set[str] = set()

    def run(self) -> None:
        """Return when all is done, the deadline has passed, or the user has interrupted."""
        while True:
            if not self._is_leaving:
                self._ask_for_idle()
            self._end_units()
            if not self._work:
                break
            self._collect()
            for observer in self._observers:
                observer.tick()
            if self._interrupt.since_s > _LEAVE_S:
                break
        self._abandon_rest()

    @property
    def _is_leaving(self) -> bool:
        late = self._deadline is not None and time.monotonic() > self._deadline
        return late or self._interrupt.requested

    def _ask_for_idle(self) -> None:
        for worker, child in enumerate(self._children):
            unit = None if child in self._work else self._next_unit()
            if unit is None:
                continue
            unit.begin()
            asked = ask(unit.study, unit.space)
            unit.in_flight += 1
            self._work[child] = _Work(unit, asked)
            stop = unit.stop(asked.config)
            child.submit("measure", unit.job.problem, asked.config, stop=stop)
            for observer in self._observers:
                observer.trial_asked(unit, worker, asked.config)

    def _next_unit(self) -> Unit | None:
        return next((u for u in self._units if self._has_room(u) and self._goes_on(u)), None)

    def _goes_on(self, unit: Unit) -> bool:
        unit.ended = unit.converged(self._stop_gain)
        return not unit.ended

    def _has_room(self, unit: Unit) -> bool:
        if unit.ended or len(unit.entries) + unit.in_flight >= unit.goal:
            return False
        if is_exhausted(unit.study, unit.space):
            if not unit.in_flight and not unit.add_finals():
                unit.ended = "every config of the space was tried"
            return False
        return True

    def _collect(self) -> None:
        by_connection = {child.connection: child for child in self._work}
        for ready in wait(list(by_connection), timeout=_POLL_S):
            child = by_connection[ready]  # type: ignore[index]
            self._finish(child, self._receive(child))
        for child in [c for c in self._work if c.waited_s > self._run_timeout_s]:
            child.restart()
            self._finish(child, self._timed_out(self._work[child].unit))

    def _receive(self, child: Child) -> TrialResult:
        answer = child.receive()
        if isinstance(answer, ChildFault):
            _log.debug("child failed: %s\n%s", answer.reason, answer.detail)
            child.restart()
            return TrialResult(Outcome.CRASHED, reason=answer.reason)
        assert isinstance(answer, TrialResult)
        return answer

    def _timed_out(self, unit: Unit) -> TrialResult:
        compiles = unit.key.device.kind == DeviceKind.ESTIMATE
        outcome = Outcome.COMPILE_TIMEOUT if compiles else Outcome.RUN_TIMEOUT
        return TrialResult(outcome, reason=f"no answer in {self._run_timeout_s:g} s")

    def _finish(self, child: Child, result: TrialResult) -> None:
        work = self._work.pop(child)
        unit = work.unit
        unit.in_flight -= 1
        unit.note(tell(unit.study, work.asked, result, unit.default_us))
        if unit.failures_in_a_row >= _FAILURES_IN_A_ROW:
            unit.ended = f"{unit.failures_in_a_row} failures in a row; the last: {result.reason}"
        for observer in self._observers:
            observer.trial_told(unit, result)

    def _end_units(self) -> None:
        for unit in self._units:
            name = unit.study.study_name
            if name in self._ended or unit.in_flight or self._has_room(unit):
                continue
            if not unit.ended and not self._is_leaving and unit.add_finals():
                continue
            self._ended.add(name)
            if unit.ended:
                unit.study.set_user_attr("finished", unit.ended)
            for observer in self._observers:
                observer.unit_ended(unit)

    def _abandon_rest(self) -> None:
        for child, work in self._work.items():
            child.kill()
            abandon(work.unit.study, work.asked)
            work.unit.in_flight -= 1
        self._work.clear()
