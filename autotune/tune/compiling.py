"""Trials that wait for their binaries, between asking and measuring."""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Iterable
from concurrent.futures import Future
from multiprocessing.connection import Connection
from typing import Generic, TypeVar

from autotune.kernels.config import AnyConfig
from autotune.kernels.problem import Problem
from autotune.tune.orders import CompiledAhead
from autotune.tune.pool_service import Compiling

_T = TypeVar("_T")


class Compiles(Generic[_T]):
    """Things that wait for a pool, or for nothing where there is no pool."""

    def __init__(self, pool: Compiling | None) -> None:
        self._pool = pool
        self._lock = threading.Lock()
        self._waiting: dict[int, _T] = {}
        self._ready: list[tuple[_T, CompiledAhead | None]] = []
        self._number = 0
        self._woken, self._waker = multiprocessing.Pipe(duplex=False)

    def __len__(self) -> int:
        """Things in it, ready ones included."""
        with self._lock:
            return len(self._waiting) + len(self._ready)

    @property
    def connection(self) -> Connection:
        """Becomes readable when something is ready."""
        return self._woken

    @property
    def has_pool(self) -> bool:
        return self._pool is not None

    def put(self, thing: _T, problem: Problem, config: AnyConfig) -> None:
        """``thing`` waits for the binaries of a config."""
        if self._pool is None:
            with self._lock:
                self._ready.append((thing, None))
            return
        with self._lock:
            self._number += 1
            number = self._number
            self._waiting[number] = thing
        future = self._pool.need(problem, config)
        future.add_done_callback(lambda done: self._on_done(number, done))

    def take(self) -> list[tuple[_T, CompiledAhead | None]]:
        """Everything that waits no more, with what came of it; None where nobody has compiled."""
        while self._woken.poll():
            self._woken.recv_bytes()
        with self._lock:
            ready, self._ready = self._ready, []
        return ready

    def drop(self) -> list[_T]:
        """Everything, whether ready or not; none of it comes any more."""
        with self._lock:
            left = [*self._waiting.values(), *(thing for thing, _ in self._ready)]
            self._waiting.clear()
            self._ready.clear()
        return left

    def want(self, problem: Problem, configs: Iterable[AnyConfig]) -> None:
        """What may be put in soon, the likeliest first."""
        if self._pool is not None:
            self._pool.want(problem, configs)

    def _on_done(self, number: int, future: Future[CompiledAhead | None]) -> None:
        """In the pool's thread."""
        with self._lock:
            thing = self._waiting.pop(number, None)
            if thing is None:
                return
            self._ready.append((thing, future.result()))
        self._waker.send_bytes(b"!")
