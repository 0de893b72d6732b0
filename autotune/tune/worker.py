"""A worker: asks ahead, has its child measure, tells behind, until no study has room.

All that workers share is the storage. One takes trials of the study that the fewest work on,
stays with it while it has room, and then goes on to the next. So several may share one batch
size, and the end of a run does not wait for one of them.
"""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import wait
from typing import Protocol

from autotune.kernels.config import AnyConfig, config_from_keys
from autotune.kernels.device import DeviceKind
from autotune.kernels.measurement import CompileFailure
from autotune.studies.claim import claim, sweep
from autotune.studies.grouped import Tally, tallies
from autotune.studies.lease import Census, Lease
from autotune.studies.ledger import Ledger
from autotune.studies.objective import Asked, abandon, ending, told
from autotune.studies.outcome import Outcome, TrialResult, failed_compile
from autotune.studies.patience import patiently
from autotune.studies.record import asked_config, measured
from autotune.tune.antechamber import Antechamber
from autotune.tune.child import Child, ChildFault
from autotune.tune.messages import Over, Spent, Started, Told
from autotune.tune.orders import CompiledAhead
from autotune.tune.plan import Unit
from autotune.tune.pool_service import Compiling
from autotune.tune.teller import Ending, Teller

_log = logging.getLogger(__name__)

_POLL_S = 0.2
_REST_S = 0.5
"""How long to wait where only others have trials in work."""
_SWEEP_S = 5.0
LEAVE_S = 4.0
"""How long an interrupted worker waits for the trials in flight."""
_HOPELESS = 5.0
"""A config whose first sample is so many times the best is given up. The recorded landscapes
stop there too: nothing within 5 times of the best ever won."""
_FAILURES_IN_A_ROW = 40
"""So many failures with nothing measured between them end a study: something else is wrong."""
_MOST_AHEAD = 12
"""Trials asked ahead of the running one, at most: what the sampler has not seen the results of."""
_WISHES = 24
"""So many likely configs are compiled ahead of being asked for: some seconds' work of a pool."""
_DEATHS = 2
"""A config that ended so many children is not tried again."""
GROWTH_BYTES = 4 * 2**30
"""A child that has grown by so much since its first answer is started afresh."""


class Parent(Protocol):
    """Whom a worker reports to, and who may ask it to leave."""

    @property
    def requested(self) -> bool:
        """True once the worker shall leave."""

    @property
    def since_s(self) -> float:
        """Seconds since then."""

    def send(self, message: object) -> None:
        """Thread-safe."""


@dataclass(frozen=True, slots=True)
class Limits:
    """When to stop asking, and how long to wait."""

    run_timeout_s: float
    stop_gain: float = 0.0
    """Ends a study whose sampler expects to save less; 0: never."""
    deadline: float | None = None
    """A ``time.monotonic()`` value after which nothing more is asked."""
    growth_bytes: int = GROWTH_BYTES


@dataclass(slots=True)
class _Flight:
    """A trial being compiled, or in the child's queue."""

    position: int
    asked: Asked
    deaths: int = 0
    ahead_s: float = 0.0
    """What the compile pool spent on it."""


class Worker:
    """One device's share of a run. The storage is up to date after every trial."""

    def __init__(
        self,
        units: Sequence[Unit],
        child: Child,
        *,
        lease: Lease,
        census: Census,
        parent: Parent,
        limits: Limits,
        start_at: int = 0,
        compiling: Compiling | None = None,
    ) -> None:
        """``start_at`` is the unit that it takes where all have equally many workers. The child
        gets a config when ``compiling`` has compiled it; where that is None, it compiles."""
        self._units = units
        self._child = child
        self._lease = lease
        self._census = census
        self._parent = parent
        self._limits = limits
        self._ledgers = [Ledger(unit.study) for unit in units]
        self._here = start_at % max(len(units), 1)
        self._flights: deque[_Flight] = deque()
        self._compiling: Antechamber[_Flight] | None = None
        if compiling is not None:
            self._compiling = Antechamber(compiling)
        self._untold: set[int] = set()
        self._over: set[int] = set()
        self._teller = Teller()
        self._swept_at = -math.inf
        self._ask_s = self._measure_s = 0.0
        self._first_at: float | None = None
        self._last_at = 0.0
        self._busy_s = 0.0
        self._base_bytes = 0

    def run(self) -> Spent:
        """Return when all is done, the deadline has passed, or the worker shall leave. Raises
        StorageError where the storage fails for minutes."""
        try:
            while self._step():
                pass
        finally:
            self._abandon_rest()
            self._teller.close()
        seconds = max(self._last_at - self._first_at, 0.0) if self._first_at else 0.0
        return Spent(seconds, self._busy_s)

    def _step(self) -> bool:
        """False where nothing is left to do."""
        self._teller.check()
        if not self._is_leaving:
            self._sweep()
            self._ask_ahead()
        if self._flights or (self._compiling and not self._is_leaving):
            self._collect()
            return self._parent.since_s <= LEAVE_S
        if self._is_leaving or len(self._over) == len(self._units):
            return False
        self._rest()
        return True

    @property
    def _is_leaving(self) -> bool:
        deadline = self._limits.deadline
        return self._parent.requested or (deadline is not None and time.monotonic() > deadline)

    def _ask_ahead(self) -> None:
        """Keep the child's queue so long that it does not run dry while we ask."""
        low = self._low_water
        if len(self._flights) > low or self._is_bloated:
            return
        if self._compiling is not None and len(self._compiling) >= _MOST_AHEAD:
            return
        began = time.monotonic()
        position = patiently(self._find_room)
        if position is None:
            return
        unit, ledger = self._units[position], self._ledgers[position]
        count = min(2 * low - len(self._flights), _room(unit, ledger))
        asked = patiently(
            lambda: claim(
                unit.study,
                unit.space,
                ledger,
                self._lease.worker,
                count=max(count, 1),
                goal=unit.goal,
            )
        )
        for each in asked:
            self._untold.add(each.trial_id)
            self._submit(_Flight(position, each))
        if self._compiling is not None:
            self._compiling.want(unit.job.problem, _likely(unit, ledger))
        if asked:
            self._ask_s = _smoothed(self._ask_s, time.monotonic() - began)

    @property
    def _low_water(self) -> int:
        """Trials that the child measures while we ask once, and at least the next one."""
        if not self._measure_s:
            return 1
        return min(max(math.ceil(self._ask_s / self._measure_s), 1), _MOST_AHEAD // 2)

    def _find_room(self) -> int | None:
        """The unit to ask: this one while it has room, else the one with the fewest workers, the
        next in order among equals."""
        if self._here not in self._over and self._has_room(self._here):
            return self._here
        count = len(self._units)
        counts = tallies([unit.study for unit in self._units])
        others = [len(tally.workers - set(self._lease.names)) for tally in counts]
        order = sorted(range(count), key=lambda i: (others[i], (i - self._here) % count))
        for position in order:
            is_full = counts[position].running and self._is_full(position, counts[position])
            if position not in self._over and not is_full and self._has_room(position):
                self._here = position
                return position
        return None

    def _is_full(self, position: int, tally: Tally) -> bool:
        return tally.measured + tally.running >= self._units[position].goal

    def _has_room(self, position: int) -> bool:
        """Reads the study, and says so where it has ended."""
        unit, ledger = self._units[position], self._ledgers[position]
        ledger.read()
        unit.entries, unit.finals = ledger.entries, ledger.finals
        if ledger.failures_in_a_row >= _FAILURES_IN_A_ROW:
            unit.ended = self._failures(position)
        unit.ended = unit.ended or self._converged(position)
        if unit.ended or not _room(unit, ledger):
            self._end(position)
            return False
        if not _queued(unit, ledger) and unit.space.is_exhausted(ledger.taken):
            self._end(position, exhausted=True)
            return False
        return True

    def _converged(self, position: int) -> str:
        unit, ledger = self._units[position], self._ledgers[position]
        if _queued(unit, ledger) or not _room(unit, ledger):
            return ""
        return unit.converged(self._limits.stop_gain)

    def _failures(self, position: int) -> str:
        unit, ledger = self._units[position], self._ledgers[position]
        reasons = [t.user_attrs.get("reason", "") for t in unit.study.get_trials(deepcopy=False)]
        last = next((reason for reason in reversed(reasons) if reason), "")
        return f"{ledger.failures_in_a_row} failures in a row; the last: {last}"

    def _end(self, position: int, *, exhausted: bool = False) -> None:
        """The unit is over, unless trials of it are in work or there are finals to measure."""
        unit, ledger = self._units[position], self._ledgers[position]
        if ledger.running or not self._teller.is_idle:
            return
        if not unit.ended and unit.add_finals():
            return
        if exhausted and not unit.ended:
            unit.ended = "every config of the space was tried"
        if unit.ended:
            unit.study.set_user_attr("finished", unit.ended)
        self._over.add(position)
        self._parent.send(Over(position, unit.ended))

    def _sweep(self) -> None:
        """Now and then: what dead workers left is queued for whoever asks next."""
        if time.monotonic() - self._swept_at < _SWEEP_S:
            return
        self._swept_at = time.monotonic()
        patiently(self._sweep_all)

    def _sweep_all(self) -> None:
        counts = tallies([unit.study for unit in self._units])
        names = self._lease.names
        for position, tally in enumerate(counts):
            unit, ledger = self._units[position], self._ledgers[position]
            mine = sum(f.position == position for f in self._in_work)
            if tally.running <= mine and tally.workers <= set(names):
                continue
            ledger.read()
            is_wanted = not unit.ended and len(ledger.entries) < unit.target + ledger.finals
            found = sweep(
                unit.study,
                ledger,
                self._census,
                mine=names,
                in_hand=self._untold,
                queue=is_wanted,
            )
            if found and is_wanted:
                self._over.discard(position)

    @property
    def _in_work(self) -> list[_Flight]:
        return [*self._flights, *(self._compiling.items() if self._compiling else ())]

    def _submit(self, flight: _Flight) -> None:
        if self._compiling is None:
            self._enqueue(flight)
        else:
            problem = self._units[flight.position].job.problem
            self._compiling.add(flight, problem, flight.asked.config)

    def _take_compiled(self) -> None:
        for flight, ahead in self._compiling.compiled() if self._compiling is not None else ():
            flight.ahead_s = ahead.seconds if ahead is not None else 0.0
            failure = _failure(ahead)
            if failure is None:
                self._enqueue(flight)
            else:
                self._tell(flight, failed_compile(failure))

    def _enqueue(self, flight: _Flight) -> None:
        self._flights.append(flight)
        if len(self._flights) == 1:
            self._announce()
        self._send(flight)

    def _send(self, flight: _Flight) -> None:
        unit = self._units[flight.position]
        best = unit.best_us
        limit = best * _HOPELESS if best is not None else None
        self._first_at = self._first_at or time.monotonic()
        self._child.submit("measure", unit.job.problem, flight.asked.config, stop_above_us=limit)

    def _announce(self) -> None:
        if self._flights:
            first = self._flights[0]
            self._parent.send(Started(first.position, first.asked.config))

    def _collect(self) -> None:
        """Take in all answers that are there; wait a little for the first."""
        bell = [self._compiling.bell] if self._compiling is not None else []
        wait([self._child.connection, *bell] if self._flights else bell, timeout=_POLL_S)
        self._take_compiled()
        while self._flights and wait([self._child.connection], timeout=0):
            self._receive()
        if self._child.waited_s > self._limits.run_timeout_s:
            self._on_death(self._timed_out())

    def _receive(self) -> None:
        answer = self._child.receive()
        if isinstance(answer, ChildFault):
            _log.debug("child failed: %s\n%s", answer.reason, answer.detail)
            self._on_death(TrialResult(Outcome.CRASHED, reason=answer.reason))
            return
        assert isinstance(answer, TrialResult)
        now = time.monotonic()
        self._measure_s = _smoothed(self._measure_s, answer.compile_s + answer.measure_s)
        self._busy_s += answer.measure_s
        self._last_at = now
        if not self._base_bytes:
            self._base_bytes = self._child.resident_bytes
        self._tell(self._flights.popleft(), answer)
        if self._is_bloated and not self._flights:
            self._restart()
        self._announce()

    @property
    def _is_bloated(self) -> bool:
        grown = self._child.resident_bytes - self._base_bytes
        return bool(self._base_bytes) and grown > self._limits.growth_bytes

    def _on_death(self, result: TrialResult) -> None:
        """The config in work is tried once more: it may be innocent. Those behind it are."""
        first = self._flights[0]
        first.deaths += 1
        if first.deaths >= _DEATHS:
            self._tell(self._flights.popleft(), result)
        self._restart()
        self._announce()

    def _restart(self) -> None:
        self._child.restart()
        self._base_bytes = 0
        for flight in self._flights:
            self._send(flight)

    def _timed_out(self) -> TrialResult:
        unit = self._units[self._flights[0].position]
        compiles = unit.key.device.kind == DeviceKind.ESTIMATE
        outcome = Outcome.COMPILE_TIMEOUT if compiles else Outcome.RUN_TIMEOUT
        return TrialResult(outcome, reason=f"no answer in {self._limits.run_timeout_s:g} s")

    def _tell(self, flight: _Flight, result: TrialResult) -> None:
        position, asked = flight.position, flight.asked
        result = replace(result, ahead_s=flight.ahead_s)
        unit = self._units[position]
        end = ending(asked, result, unit.default_us, deaths=flight.deaths)
        entry = next(iter(measured([told(asked, unit.space, end)])), None)
        if entry is not None:
            self._ledgers[position].note(entry)

        def then() -> None:
            self._untold.discard(asked.trial_id)
            self._parent.send(Told(position, result, entry))

        self._teller.tell(Ending(unit.study, end, then))

    def _rest(self) -> None:
        """Others have what is left in work; they may fail."""
        time.sleep(_REST_S if self._teller.is_idle else 0.01)

    def _abandon_rest(self) -> None:
        by_unit: dict[int, list[Asked]] = {}
        for flight in self._in_work:
            by_unit.setdefault(flight.position, []).append(flight.asked)
        if self._flights:
            self._child.kill()
        self._flights.clear()
        if self._compiling is not None:
            self._compiling.clear()
        for position, asked in by_unit.items():
            abandon(self._units[position].study, *asked)


def _room(unit: Unit, ledger: Ledger) -> int:
    """Measurements that are wanted and not in work."""
    goal = unit.target + ledger.finals
    return max(goal - len(ledger.entries) - len(ledger.running), 0)


def _failure(ahead: CompiledAhead | None) -> CompileFailure | None:
    found = ahead.result if ahead is not None else None
    return found if isinstance(found, CompileFailure) else None


def _likely(unit: Unit, ledger: Ledger) -> list[AnyConfig]:
    """What will be asked next: what is queued, then what the sampler thinks best, where it says."""
    queued = [config for trial in ledger.waiting if (config := asked_config(trial)) is not None]
    likely = getattr(unit.study.sampler, "likely", None)
    if likely is None or len(queued) >= _WISHES:
        return queued[:_WISHES]
    params = likely(unit.study, _WISHES - len(queued))
    return [*queued, *(config_from_keys(each) for each in params)]


def _queued(unit: Unit, ledger: Ledger) -> bool:
    """True while warm starts wait: they are measured, whatever is believed of them."""
    return any(asked_config(trial) in unit.space for trial in ledger.waiting)


def _smoothed(before: float, now: float) -> float:
    return now if not before else 0.7 * before + 0.3 * now
