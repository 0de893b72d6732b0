"""One compile pool for many processes: each orders through a pipe to the process that has it."""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Iterable
from concurrent.futures import Future
from functools import partial
from itertools import count
from multiprocessing.connection import Connection
from typing import Protocol

from autotune.backends.gpu.providers import PROVIDERS
from autotune.spec.config import AnyConfig
from autotune.spec.device import Device, DeviceKind
from autotune.spec.problem import Problem
from autotune.tune.compile_service.orders import CompiledAhead
from autotune.tune.compile_service.pool import CompilePool


class Compiling(Protocol):
    """Where a worker orders compiles: a CompilePool, or a RemotePool of another process."""

    def want(self, problem: Problem, configs: Iterable[AnyConfig]) -> None:
        """See ``CompilePool.want``."""

    def need(self, problem: Problem, config: AnyConfig) -> Future[CompiledAhead | None]:
        """See ``CompilePool.need``."""

    def close(self) -> None:
        """What is still needed ends with None."""


class RemotePool:
    """A pool of the process at the other end of ``connection``, which runs ``serve_pool``.
    Thread-safe. Where that process ends, every need ends with None."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._lock, self._send_lock = threading.Lock(), threading.Lock()
        self._numbers = count()
        self._futures: dict[int, Future[CompiledAhead | None]] = {}
        self._is_closed = False
        threading.Thread(target=self._listen, name="remote pool", daemon=True).start()

    def want(self, problem: Problem, configs: Iterable[AnyConfig]) -> None:
        """See ``CompilePool.want``."""
        self._send((None, problem, tuple(configs)))

    def need(self, problem: Problem, config: AnyConfig) -> Future[CompiledAhead | None]:
        """See ``CompilePool.need``."""
        future: Future[CompiledAhead | None] = Future()
        with self._lock:
            number = next(self._numbers)
            self._futures[number] = future
        if not self._send((number, problem, config)):
            self._give_up()
        return future

    def close(self) -> None:
        """The pool itself goes on."""
        self._is_closed = True
        self._send(None)
        self._give_up()

    def _send(self, message: object) -> bool:
        """False where nobody will answer. Listening goes on meanwhile, so both ends drain."""
        with self._send_lock:
            try:
                self._connection.send(message)
            except OSError:
                return False
        return not self._is_closed or message is None

    def _listen(self) -> None:
        try:
            while True:
                number, answer = self._connection.recv()
                with self._lock:
                    future = self._futures.pop(number, None)
                if future is not None:
                    future.set_result(answer)
        except (EOFError, OSError):
            self._is_closed = True
            self._give_up()

    def _give_up(self) -> None:
        with self._lock:
            left, self._futures = self._futures, {}
        for future in left.values():
            future.set_result(None)


def serve_pool(pool: CompilePool, connection: Connection) -> None:
    """Take the orders of one RemotePool until it is closed or its process has ended: the target
    of a thread for each worker."""
    lock = threading.Lock()
    try:
        while (message := connection.recv()) is not None:
            number, problem, configs = message
            if number is None:
                pool.want(problem, configs)
            else:
                pool.need(problem, configs).add_done_callback(
                    partial(_answer, connection, lock, number)
                )
    except (EOFError, OSError):
        pass
    with lock:
        connection.close()


def compiles_ahead(device: Device, provider: str) -> bool:
    """Whether a pool is of use: an estimate is a compile, a replay needs none, and what an engine
    launches is not our kernel."""
    return device.kind is DeviceKind.CUDA and PROVIDERS[provider].compiles_ahead


class PoolHost:
    """The parent's end: workers connect when they start, and the pool comes when the device that
    it compiles for is known."""

    def __init__(self) -> None:
        self._pool: CompilePool | None = None
        self._is_open = threading.Event()

    def connect(self) -> Connection:
        """The far end of a new pipe, for a worker's RemotePool. The caller closes it here once
        the worker has it."""
        ours, theirs = multiprocessing.get_context("spawn").Pipe()
        thread = threading.Thread(
            target=self._serve, args=(ours,), name="compile pool's host", daemon=True
        )
        thread.start()
        return theirs

    def open(self, pool: CompilePool) -> None:
        """From now on orders are carried out."""
        self._pool = pool
        self._is_open.set()

    def close(self) -> None:
        """Whoever waits gets None."""
        self._is_open.set()
        if self._pool is not None:
            self._pool.close()

    def _serve(self, connection: Connection) -> None:
        self._is_open.wait()
        if self._pool is None:
            connection.close()
        else:
            serve_pool(self._pool, connection)


def _answer(
    connection: Connection,
    lock: threading.Lock,
    number: int,
    future: Future[CompiledAhead | None],
) -> None:
    with lock:
        try:
            connection.send((number, future.result()))
        except OSError:
            return  # whoever asked is gone
