"""The pool's process: serves the clients, keeps compile processes at work, and kills those that
take too long. They are forks of it, so that an engine is imported once.

Not ``ProcessPoolExecutor``, which is broken for good when one of its processes dies. Not Pebble,
which restarts them, but whose processes read from one pipe under one lock (a process killed while
it holds the lock stops the others for a minute), and which knows neither priorities nor a limit on
memory, nor kills the ptxas that a compiler has started.
"""

from __future__ import annotations

import os
import select
import signal
import socket
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.reduction import recv_handle
from statistics import median
from typing import Any

from autotune.backends.binaries import Binary
from autotune.backends.compile_cache import CompileCache
from autotune.spec.device import Target
from autotune.spec.measurement import CompileFailure, FailureCause, Resources
from autotune.tuning.compile_service.client import CompileRequest, Prefetch
from autotune.tuning.compile_service.process import Compile, CompileLimits, Compiler
from autotune.tuning.compile_service.queue import CompileQueue, TimedCompile
from autotune.tuning.processes.killable import EXIT_GRACE_S, exit_words

_PATIENCE = 8.0
"""A compile may take so many times the median of those before it, ..."""
_LEAST_LIMIT_S = 10.0
"""... but always this long, since medians of a second say little, ..."""
_MEDIAN_FROM = 10
"""... and all of the limit until so many have ended."""
_START_LIMIT_S = 120.0
"""Importing an engine takes 15 s; a minute from a cold network file system."""
_START_AGAIN_S = 1.0
_FAILED_STARTS = 3
"""So many in a row, and the pool gives up."""
_DISK = FailureCause.DISK
_NICENESS = 5
"""Measuring goes first: what launches kernels must not wait for a core."""
NEW_CLIENT = "client"
"""A message to the pool, after which the handle of a client's pipe comes."""
BINARIES, SECONDS, KILLED = range(3)
"""Places of the numbers that the parent reads; see ``PoolSpent``."""


@dataclass(frozen=True, slots=True)
class StartCompiling:
    """A message to the pool: compile from now on."""

    target: Target
    jobs: int
    limits: CompileLimits
    cache: CompileCache | None


def serve_pool(link: Connection, open_compiler: Callable[[], Compile], spent: Any) -> None:
    """Import what is compiled, then serve clients until the parent closes its end: the process's
    main. ``spent`` is memory that the parent reads. Says in words why it cannot go on."""
    os.nice(_NICENESS)
    signal.alarm(int(_START_LIMIT_S))  # ends the process: whoever waits finds it gone
    try:
        compile_it = open_compiler()
    except Exception as error:  # noqa: BLE001  an engine's import: the measuring child says why
        words = f"{type(error).__name__}: {error}".splitlines()[0]
        with suppress(OSError):
            link.send(f"compile processes do not start ({words}); measuring ones compile")
        return
    signal.alarm(0)
    pool = _Pool(link, compile_it, spent)
    try:
        pool.supervise()
    finally:
        pool.close()


class _Pool:
    """Clients, the queue and the compile processes. Clients' requests wait until the message that
    says what they are compiled for."""

    def __init__(self, link: Connection, compile_it: Compile, spent: Any) -> None:
        self._link, self._compile, self._spent = link, compile_it, spent
        self._start: StartCompiling | None = None
        self._is_closed = False
        self._clients: list[Connection] = []
        self._compilers: list[Compiler] = []
        self._queue: CompileQueue[tuple[Connection, int]] = CompileQueue()
        self._usual_s: deque[float] = deque(maxlen=200)
        self._killed_once: set[str] = set()
        self._failed_starts = 0

    def supervise(self) -> None:
        while not self._is_closed:
            if self._start is not None:
                self._hand_out(self._start)
            self._collect()
            self._end_overdue()

    def close(self) -> None:
        for client in self._clients:
            client.close()
        for compiler in self._compilers:
            compiler.process.strike()
        for compiler in self._compilers:
            compiler.process.kill()

    def _hand_out(self, start: StartCompiling) -> None:
        for compiler in self._compilers:
            binary = self._next(start.cache) if compiler.is_idle else None
            if binary is not None:
                compiler.submit(binary)
        starting = sum(not compiler.is_ready for compiler in self._compilers)
        room = start.jobs - len(self._compilers)
        for _ in range(min(room, len(self._queue) - starting)):
            try:
                self._compilers.append(Compiler(self._compile, start.target, start.limits))
            except OSError as error:  # no more processes, no more memory
                self._failed_start(str(error))
                return

    def _next(self, cache: CompileCache | None) -> Binary | None:
        while (binary := self._queue.take()) is not None:
            known = cache.get(binary.key) if cache else None
            if not isinstance(known, CompileFailure):
                return binary  # Triton's own cache may lack what is known to be fine
            self._answer(self._queue.note(binary, TimedCompile(known, 0.0)))
        return None

    def _collect(self) -> None:
        """Wait until something happens, and take it in."""
        left = [self._limit_s(c) - c.busy_s for c in self._compilers if not c.is_idle]
        if self._start is not None and not self._compilers and self._queue:
            left = [_START_AGAIN_S]
        timeout = max(min(left), 0.0) if left else None
        links = [compiler.process.link for compiler in self._compilers]
        ready = wait([*links, *self._clients, self._link], timeout)
        for compiler in [c for c in self._compilers if c.process.link in ready]:
            self._receive(compiler)
        for client in [c for c in self._clients if c in ready]:
            self._serve(client)
        if self._link in ready:
            self._obey()

    def _obey(self) -> None:
        """Take in what the parent says: a new client, or what to compile for. One that has nothing
        more to say is gone."""
        try:
            message = self._link.recv()
        except (EOFError, OSError):
            self._is_closed = True
            return
        if isinstance(message, StartCompiling):
            self._start = message
        elif message == NEW_CLIENT:
            self._clients.append(Connection(recv_handle(self._link)))

    def _serve(self, client: Connection) -> None:
        try:
            message = client.recv()
        except (EOFError, OSError):  # its process has ended
            self._drop(client)
            return
        if isinstance(message, Prefetch):
            self._queue.prefetch(message.problem, message.configs)
        elif isinstance(message, CompileRequest):
            asker = client, message.number
            known = self._queue.request(asker, message.binaries)
            self._answer([(asker, known)] if known else [])

    def _answer(self, answers: Iterable[tuple[tuple[Connection, int], TimedCompile]]) -> None:
        for (client, number), result in answers:
            with suppress(OSError):  # whoever asked is gone
                if _takes_more(client):
                    client.send((number, result))
                else:
                    self._drop(client)

    def _drop(self, client: Connection) -> None:
        """Hang up: a client that lives, and one that was stopped, goes on without a pool."""
        self._clients.remove(client)
        _shut(client)
        client.close()

    def _receive(self, compiler: Compiler) -> None:
        binary, busy_s = compiler.binary, compiler.busy_s
        try:
            result = compiler.receive()
        except EOFError:
            self._died(compiler, binary, busy_s)
            return
        self._failed_starts = 0
        if compiler.is_worn:
            self._end(compiler)
        if result is not None and binary is not None:
            if isinstance(result.result, CompileFailure) and result.result.cause is _DISK:
                self._give_up(result.result.reason)
                return
            if isinstance(result.result, Resources):
                self._usual_s.append(result.seconds)
            self._note(binary, result)

    def _died(self, compiler: Compiler, binary: Binary | None, busy_s: float) -> None:
        code = self._end(compiler, grace_s=EXIT_GRACE_S)
        if not compiler.is_ready:
            self._failed_start(exit_words(code))
        elif binary is None:
            return  # another is started when there is work
        elif code == -signal.SIGKILL and binary.key not in self._killed_once:
            # By somebody, or by the system for want of memory: perhaps not its own fault.
            self._killed_once.add(binary.key)
            self._queue.put_back(binary)
        else:
            reason = f"the compiler crashed ({exit_words(code)})"
            self._note_killed(binary, reason, FailureCause.CRASH, busy_s)

    def _end_overdue(self) -> None:
        for compiler in list(self._compilers):
            binary, busy_s, limit_s = compiler.binary, compiler.busy_s, self._limit_s(compiler)
            if compiler.is_idle or busy_s < limit_s:
                continue
            self._end(compiler)
            if binary is None:
                self._failed_start(f"not ready within {limit_s:g} s")
            else:
                reason = f"the compiler did not end within {limit_s:.3g} s"
                self._note_killed(binary, reason, FailureCause.TIMEOUT, busy_s)

    def _limit_s(self, compiler: Compiler) -> float:
        if not compiler.is_ready or self._start is None:
            return _START_LIMIT_S
        timeout_s = self._start.limits.timeout_s
        if len(self._usual_s) < _MEDIAN_FROM:
            return timeout_s
        return min(timeout_s, max(_LEAST_LIMIT_S, _PATIENCE * median(self._usual_s)))

    def _end(self, compiler: Compiler, *, grace_s: float = 0.0) -> int | None:
        self._compilers.remove(compiler)
        return compiler.process.kill(grace_s)

    def _failed_start(self, words: str) -> None:
        self._failed_starts += 1
        if self._failed_starts >= _FAILED_STARTS:
            self._give_up(f"compile processes do not start ({words})")

    def _give_up(self, words: str) -> None:
        with suppress(OSError):
            self._link.send(f"{words}; measuring processes compile")
        self._is_closed = True

    def _note_killed(
        self, binary: Binary, reason: str, cause: FailureCause, seconds: float
    ) -> None:
        self._spent[KILLED] += 1
        self._note(binary, TimedCompile(CompileFailure(reason, cause=cause), seconds))

    def _note(self, binary: Binary, result: TimedCompile) -> None:
        self._spent[BINARIES] += 1
        self._spent[SECONDS] += result.seconds
        if self._start is not None and self._start.cache is not None:
            self._start.cache.keep(binary.key, result.result)
        self._answer(self._queue.note(binary, result))


def _shut(client: Connection) -> None:
    """Let the far end know: compile processes, which are forks, hold this end open too."""
    with suppress(OSError), socket.fromfd(client.fileno(), socket.AF_UNIX, socket.SOCK_STREAM) as s:
        s.shutdown(socket.SHUT_RDWR)


def _takes_more(client: Connection) -> bool:
    """False where the pipe is full, since whoever asked reads nothing: to send would hold up the
    pool for all others."""
    poll = select.poll()
    poll.register(client, select.POLLOUT)
    return bool(poll.poll(0))
