"""Where a device's time goes: seconds of each cause, in pieces of a quarter of a second.

A worker notes what its device does, or waits for, from its own start to the last answer. Workers
that share a device take turns on it: there another one's work is no waiting.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from autotune.documents.run import TimePiece, WorkerTime

PIECE_S = 0.25
"""Length of a piece, on the clock that all processes of a machine share."""


class Cause(StrEnum):
    """What a device does or waits for, in words."""

    OPEN = "opening the device"
    DESCRIBE = "describing spaces"
    STUDIES = "making studies"
    ENGINE = "asking the engine"
    TURN = "another worker's turn"
    LOAD = "loading binaries"
    VERIFY = "verifying"
    TIME = "timing"
    FINALS = "finals"
    COMPILE = "waiting for compiles"
    ASK = "waiting for the sampler and the storage"
    OTHERS = "waiting for others' trials"

    @property
    def is_busy(self) -> bool:
        """True where the device verifies and times."""
        return self in (Cause.VERIFY, Cause.TIME, Cause.FINALS)

    @property
    def is_work(self) -> bool:
        """True where no other worker has the device meanwhile. The engine may be asked while the
        device is another's, whose turn it then waits for."""
        return self.is_busy or self is Cause.LOAD


_LEAST = 0.005
"""Share of the time that is worth a word."""

Piece = Mapping[Cause, float]
"""Seconds of each cause."""


@dataclass(frozen=True, slots=True)
class DeviceTime:
    """The pieces of one worker, by their numbers on the machine's clock."""

    pieces: Mapping[int, Piece] = field(default_factory=dict)
    first_s: float = math.inf
    """When the device turned to the first trial; infinite where there was none."""
    last_s: float = -math.inf
    """When the last trial or round of finals ended."""


class TimeLine:
    """A worker's notes of its device."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._pieces: dict[int, dict[Cause, float]] = {}
        self._cause, self._since = Cause.OPEN, clock()
        self._first_s, self._last_s = math.inf, -math.inf

    def turn_to(self, cause: Cause) -> None:
        """The device did or waited for what was noted last until now, and turns to another."""
        self.spend(self._cause, math.inf)
        self._cause = cause

    def spend(self, cause: Cause, seconds: float) -> None:
        """So much of the time that is not accounted for yet went to ``cause``."""
        until = min(self._since + max(seconds, 0.0), self._clock())
        if cause.is_busy and until > self._since:
            self._first_s, self._last_s = min(self._first_s, self._since), until
        while self._since < until:
            number = math.floor(self._since / PIECE_S)
            end = min(until, (number + 1) * PIECE_S)
            piece = self._pieces.setdefault(number, {})
            piece[cause] = piece.get(cause, 0.0) + end - self._since
            self._since = end

    def go_on(self, cause: Cause) -> None:
        """What is not accounted for yet, and what follows, goes to ``cause``."""
        self._cause = cause

    def taken(self) -> DeviceTime:
        """Return the notes so far."""
        self.turn_to(self._cause)
        return DeviceTime(self._pieces, self._first_s, self._last_s)


def shares_of(device_times: Mapping[str, DeviceTime]) -> dict[Cause, float]:
    """Return each cause's share of the devices' time between the first and the last measurement,
    the largest first; ``device_times`` are of workers, by name."""
    devices: dict[str, list[DeviceTime]] = {}
    for worker, device_time in device_times.items():
        devices.setdefault(device_of(worker), []).append(device_time)
    found = dict.fromkeys(Cause, 0.0)
    for workers in devices.values():
        for cause, seconds in _of_device(workers).items():
            found[cause] += seconds
    whole_s = sum(found.values())
    ordered = sorted(found.items(), key=lambda item: -item[1])
    return {cause: seconds / whole_s for cause, seconds in ordered if seconds > 0}


def shares_words(shares: Mapping[Cause, float]) -> str:
    """Say how much of their time GPUs verified and timed, and what the rest went to."""
    busy = sum(share for cause, share in shares.items() if cause.is_busy)
    others = [f"{c.value} {s:.0%}" for c, s in shares.items() if not c.is_busy and s >= _LEAST]
    rest = f" ({', '.join(others)})" if others else ""
    return f"GPUs verified and timed {busy:.0%} of their time{rest}"


def worker_times(device_times: Mapping[str, DeviceTime], began_s: float) -> dict[str, WorkerTime]:
    """Return the pieces of each worker, in seconds since ``began_s``."""
    return {worker: _worker_time(each, began_s) for worker, each in device_times.items()}


def _worker_time(device_time: DeviceTime, began_s: float) -> WorkerTime:
    first, last = device_time.first_s, device_time.last_s
    return WorkerTime(
        first_s=first - began_s if first < math.inf else None,
        last_s=last - began_s if last > -math.inf else None,
        pieces=tuple(
            TimePiece(
                start_s=number * PIECE_S - began_s, seconds={c.value: s for c, s in piece.items()}
            )
            for number, piece in sorted(device_time.pieces.items())
        ),
    )


def _of_device(workers: Collection[DeviceTime]) -> dict[Cause, float]:
    """In each piece a device does what its workers do on it, one after the other; what is left over
    goes to what they wait for, in proportion."""
    first = min((each.first_s for each in workers), default=math.inf)
    last = max((each.last_s for each in workers), default=-math.inf)
    if first > last:
        return {}
    found = dict.fromkeys(Cause, 0.0)
    for number in range(math.floor(first / PIECE_S), math.floor(last / PIECE_S) + 1):
        start, end = max(number * PIECE_S, first), min((number + 1) * PIECE_S, last)
        pieces = [each.pieces[number] for each in workers if number in each.pieces]
        for cause, seconds in _together(pieces, end - start).items():
            found[cause] += seconds
    return found


def device_of(worker: str) -> str:
    """Return the name of the device of the worker of this name; several may share one."""
    return worker.partition(" ")[0]


def _together(pieces: Iterable[Piece], length_s: float) -> dict[Cause, float]:
    """Return what a device did in a piece of ``length_s``."""
    sums: dict[Cause, float] = {}
    for piece in pieces:
        for cause, seconds in piece.items():
            sums[cause] = sums.get(cause, 0.0) + seconds
    work = {cause: seconds for cause, seconds in sums.items() if cause.is_work}
    waits = {c: s for c, s in sums.items() if c not in work and c is not Cause.TURN}
    worked_s, waited_s = sum(work.values()), sum(waits.values())
    shrink = min(1.0, length_s / worked_s) if worked_s else 0.0
    left_s = max(length_s - worked_s, 0.0)
    found = {cause: seconds * shrink for cause, seconds in work.items()}
    if not waited_s:
        return found if left_s < 1e-9 else found | {Cause.OTHERS: left_s}
    return found | {cause: left_s * seconds / waited_s for cause, seconds in waits.items()}
