"""A worker's end of the compile pool: items wait here until their configs are compiled."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from multiprocessing.connection import Connection
from typing import Generic, TypeVar

from autotune.backends.binaries import Binaries
from autotune.spec.problem import Problem
from autotune.tuning.compile_service.queue import TimedCompile

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Prefetch:
    """A message to the pool: these are likely to be requested, the likeliest first."""

    problem: Problem
    configs: tuple[Binaries, ...]


@dataclass(frozen=True, slots=True)
class CompileRequest:
    """A message to the pool: somebody waits for this, and the answer has its number."""

    number: int
    binaries: Binaries


class CompileClient(Generic[Item]):
    """Items in, and out in the order in which their configs are compiled. For one thread, which
    keeps the requests few: the pipe must hold their answers. Without a pool nothing waits."""

    def __init__(self, connection: Connection | None = None) -> None:
        """``connection`` is what ``CompilePool.connect`` returns; None: there is no pool."""
        self.connection = connection
        """The pipe to the pool, readable when something is compiled; None where no pool is left."""
        self._waiting: dict[int, Item] = {}
        self._numbers = count()

    def __len__(self) -> int:
        return len(self._waiting)

    def request(self, item: Item, binaries: Binaries) -> None:
        """Have compiled what a config needs, before all that is only likely."""
        number = next(self._numbers)
        self._waiting[number] = item
        self._send(CompileRequest(number, binaries))

    def prefetch(self, problem: Problem, configs: Iterable[Binaries]) -> None:
        """Have compiled what may be requested next, the likeliest config first, while nobody
        waits. It replaces what was prefetched for ``problem`` before."""
        self._send(Prefetch(problem, tuple(configs)))

    def compiled(self) -> list[tuple[Item, TimedCompile | None]]:
        """Return the items that wait no more, and what came of each config. None: there is no pool,
        or its processes do not start, so the device's process compiles."""
        found: list[tuple[Item, TimedCompile | None]] = []
        try:
            while self.connection is not None and self.connection.poll():
                number, result = self.connection.recv()
                if number in self._waiting:
                    found.append((self._waiting.pop(number), result))
        except (EOFError, OSError):
            self.close()
        if self.connection is None:
            found += [(item, None) for item in self.clear()]
        return found

    def clear(self) -> list[Item]:
        """Forget the items that wait, and return them."""
        left = list(self._waiting.values())
        self._waiting.clear()
        return left

    def close(self) -> None:
        """Hang up. The pool goes on with what was prefetched."""
        if self.connection is not None:
            self.connection.close()
        self.connection = None

    def _send(self, message: Prefetch | CompileRequest) -> None:
        if self.connection is not None:
            with suppress(OSError):  # ``compiled`` finds that the pool is gone
                self.connection.send(message)
