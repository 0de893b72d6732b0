"""CPU processes that compile, into Triton's shared cache, what is likely to be asked next.

A measuring process then only loads, and a config whose compile hangs, crashes or takes all memory
has its result before any GPU sees it. Each binary is compiled once for all studies.

Not ``ProcessPoolExecutor``, which is broken for good when one of its processes dies. Not Pebble,
which restarts them, but whose processes read from one pipe under one lock (a process killed while
it holds the lock stops the others for a minute), and which knows neither priorities nor a limit on
memory, nor kills the ptxas that a compiler has started.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import select
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection, wait
from statistics import median

from autotune.backends.compile_cache import CompileCache
from autotune.backends.gpu.providers import PROVIDERS
from autotune.spec.device import Device, DeviceKind, Target
from autotune.spec.measurement import CompileFailure, FailureCause, Resources
from autotune.tune.compile_service.client import CompileRequest, Prefetch
from autotune.tune.compile_service.process import Compile, CompileLimits, Compiler, triton_compiler
from autotune.tune.compile_service.queue import Binary, CompileQueue, TimedCompile
from autotune.tune.processes.killable import EXIT_GRACE_S, exit_words

_log = logging.getLogger(__name__)
_CONTEXT = multiprocessing.get_context("spawn")

MEMORY_BYTES = 4 * 2**30
"""A compile takes 0.1 GiB; a runaway one must not take the machine."""
_PATIENCE = 8.0
"""A compile may take so many times the median of those before it, ..."""
_LEAST_LIMIT_S = 10.0
"""... but always this long, since medians of a second say little, ..."""
_MEDIAN_FROM = 10
"""... and all of the limit until so many have ended."""
_START_LIMIT_S = 120.0
"""Importing torch and Triton takes 3 s; a minute from a cold network file system."""
_START_AGAIN_S = 1.0
_FAILED_STARTS = 3
"""So many in a row, and the pool gives up."""


@dataclass(slots=True)
class PoolSpent:
    """The work that a pool has done so far."""

    binaries: int = 0
    seconds: float = 0.0
    """Wall seconds of compiles, added over the processes; those of killed ones included."""
    killed: int = 0
    """Compiles that ended with their process: too slow, too large, crashed."""


def default_jobs(gpus: int = 0) -> int:
    """Return the processes that compile by default: as many as cores that this process may use,
    less one for each GPU that measures meanwhile, and at least 1."""
    usable = getattr(os, "sched_getaffinity", None)
    cores = len(usable(0)) if usable else os.cpu_count() or 1
    return max(1, cores - gpus)


def compiles_ahead(device: Device, provider: str) -> bool:
    """True if a pool is of use: an estimate is a compile, a replay needs none, and what an engine
    launches is not our kernel."""
    return device.kind is DeviceKind.CUDA and PROVIDERS[provider].compiles_ahead


class CompilePool:
    """The compile processes of a run, and the thread that keeps them at work for its clients.

    Clients connect when they start; what they ask for waits until the pool is started, when the
    device that it compiles for is known. Processes start when there is work for them, and end with
    ``close`` or with this process, however it dies.
    """

    _open_compiler: Callable[[], Compile]
    _limits: CompileLimits
    _spent: PoolSpent
    _jobs: int
    _cache: CompileCache | None

    def __init__(self) -> None:
        self.spent: PoolSpent | None = None
        """The work done so far; None where the pool was not started."""
        self._lock = threading.Lock()
        self._is_closed = False
        self._arrived: list[Connection] = []
        self._woken, self._waker = _CONTEXT.Pipe(duplex=False)
        self._thread: threading.Thread | None = None
        # What follows belongs to the thread: processes die with the thread that started them.
        self._clients: list[Connection] = []
        self._compilers: list[Compiler] = []
        self._queue: CompileQueue[tuple[Connection, int]] = CompileQueue()
        self._usual_s: deque[float] = deque(maxlen=200)
        self._killed_once: set[str] = set()
        self._failed_starts = 0

    def connect(self) -> Connection:
        """Return the far end of a new pipe, for a CompileClient of this process or of another. The
        caller closes it here once the other process has it."""
        ours, theirs = _CONTEXT.Pipe()
        with self._lock:
            if self._is_closed:
                ours.close()
            else:
                self._arrived.append(ours)
                self._waker.send_bytes(b"!")
        return theirs

    def start(
        self,
        target: Target,
        jobs: int,
        *,
        timeout_s: float = 60.0,
        memory_bytes: int = MEMORY_BYTES,
        cache: CompileCache | None = None,
        open_compiler: Callable[[], Compile] | None = None,
    ) -> None:
        """Compile for ``target`` from now on, in ``jobs`` processes. ``timeout_s`` caps the time
        limit of one compile, which follows the median so far; ``memory_bytes`` is what one may take
        beyond what a process has at rest. ``cache`` keeps what the compiler said for later runs;
        failures in it are believed. ``open_compiler`` is called in each process, and compiles with
        Triton where it is None."""
        self.spent = self._spent = PoolSpent()
        self._open_compiler = open_compiler or partial(triton_compiler, target)
        self._limits = CompileLimits(timeout_s, memory_bytes)
        self._jobs, self._cache = jobs, cache
        self._thread = threading.Thread(target=self._supervise, name="compile pool", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the processes at once. Whoever waits is told that the pool is gone."""
        self._hang_up()
        if self._thread is not None:
            self._thread.join()

    def _hang_up(self) -> None:
        with self._lock:
            self._is_closed = True
            self._waker.send_bytes(b"!")
            for client in self._arrived:
                client.close()
            self._arrived.clear()

    def _supervise(self) -> None:
        try:
            while not self._is_closed:
                self._hand_out()
                self._collect()
                self._end_overdue()
        finally:
            self._hang_up()
            for client in self._clients:
                client.close()
            for compiler in self._compilers:
                compiler.process.kill()

    def _hand_out(self) -> None:
        for compiler in self._compilers:
            binary = self._next() if compiler.is_idle else None
            if binary is not None:
                compiler.submit(binary)
        starting = sum(not compiler.is_ready for compiler in self._compilers)
        room = self._jobs - len(self._compilers)
        for _ in range(min(room, len(self._queue) - starting)):
            try:
                self._compilers.append(Compiler(self._open_compiler, self._limits))
            except OSError as error:  # no more processes, no more memory
                self._failed_start(str(error))
                return

    def _next(self) -> Binary | None:
        while (binary := self._queue.take()) is not None:
            known = self._cache.get(binary.key) if self._cache else None
            if not isinstance(known, CompileFailure):
                return binary  # Triton's own cache may lack what is known to be fine
            self._answer(self._queue.note(binary, TimedCompile(known, 0.0)))
        return None

    def _collect(self) -> None:
        """Wait until something happens, and take it in."""
        left = [self._limit_s(c) - c.busy_s for c in self._compilers if not c.is_idle]
        if not self._compilers and self._queue:
            left = [_START_AGAIN_S]
        timeout = max(min(left), 0.0) if left else None
        links = [compiler.process.link for compiler in self._compilers]
        ready = wait([*links, *self._clients, self._woken], timeout)
        for compiler in [c for c in self._compilers if c.process.link in ready]:
            self._receive(compiler)
        for client in [c for c in self._clients if c in ready]:
            self._serve(client)
        if self._woken in ready:
            self._woken.recv_bytes()
            with self._lock:
                self._clients += self._arrived
                self._arrived.clear()

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
            known = self._queue.request(asker, message.problem, message.config)
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
        if not compiler.is_ready:
            return _START_LIMIT_S
        if len(self._usual_s) < _MEDIAN_FROM:
            return self._limits.timeout_s
        patient = max(_LEAST_LIMIT_S, _PATIENCE * median(self._usual_s))
        return min(self._limits.timeout_s, patient)

    def _end(self, compiler: Compiler, *, grace_s: float = 0.0) -> int | None:
        self._compilers.remove(compiler)
        return compiler.process.kill(grace_s)

    def _failed_start(self, words: str) -> None:
        self._failed_starts += 1
        if self._failed_starts >= _FAILED_STARTS:
            _log.warning("compile processes do not start (%s); measuring ones compile", words)
            self._is_closed = True

    def _note_killed(
        self, binary: Binary, reason: str, cause: FailureCause, seconds: float
    ) -> None:
        self._spent.killed += 1
        self._note(binary, TimedCompile(CompileFailure(reason, cause=cause), seconds))

    def _note(self, binary: Binary, result: TimedCompile) -> None:
        self._spent.binaries += 1
        self._spent.seconds += result.seconds
        if self._cache is not None:
            self._cache.keep(binary.key, result.result)
        self._answer(self._queue.note(binary, result))


def _takes_more(client: Connection) -> bool:
    """False where the pipe is full, since whoever asked reads nothing: to send would hold up the
    pool for all others."""
    poll = select.poll()
    poll.register(client, select.POLLOUT)
    return bool(poll.poll(0))
