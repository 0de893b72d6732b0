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
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import wait
from statistics import median

from autotune.backends.compile_cache import CompileCache
from autotune.spec.config import AnyConfig
from autotune.spec.device import Target
from autotune.spec.measurement import CompileFailure, CompileResult, FailureCause, Resources
from autotune.spec.problem import Problem
from autotune.tune.compile_service.orders import Answer, CompiledAhead, Orders
from autotune.tune.compile_service.process import Compile, CompileLimits, Compiler, triton_compiler
from autotune.tune.compile_service.queue import Binary
from autotune.tune.processes.killable import EXIT_GRACE_S, exit_words

_log = logging.getLogger(__name__)

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
    """What a pool has done so far."""

    binaries: int = 0
    seconds: float = 0.0
    """Wall seconds of compiles, added over the processes; those of killed ones included."""
    killed: int = 0
    """Compiles that ended with their process: too slow, too large, crashed."""


def default_jobs(gpus: int) -> int:
    """What ``--compile-jobs`` is by default: the cores that this process may use, less one for
    each GPU, and at least 1."""
    usable = getattr(os, "sched_getaffinity", None)
    cores = len(usable(0)) if usable else os.cpu_count() or 1
    return max(1, cores - gpus)


class CompilePool:
    """Thread-safe. Processes start when there is work for them, and end with ``close`` or with
    this process, however it dies."""

    def __init__(
        self,
        target: Target,
        jobs: int,
        *,
        timeout_s: float = 60.0,
        memory_bytes: int = MEMORY_BYTES,
        cache: CompileCache | None = None,
        open_compiler: Callable[[], Compile] | None = None,
    ) -> None:
        """``timeout_s`` caps the time limit of one compile, which follows the median so far;
        ``memory_bytes`` is what one may take beyond what a process has at rest. ``cache`` keeps
        what the compiler said for later runs; failures in it are believed. ``open_compiler`` is
        called in each process, and compiles with Triton for ``target`` where it is None."""
        self.spent = PoolSpent()
        self._open_compiler = open_compiler or partial(triton_compiler, target)
        self._jobs, self._cache = jobs, cache
        self._limits = CompileLimits(timeout_s, memory_bytes)
        self._orders = Orders()
        self._compilers: list[Compiler] = []
        self._usual_s: deque[float] = deque(maxlen=200)
        self._killed_once: set[str] = set()
        self._failed_starts = 0
        self._is_closed = False
        self._woken, self._waker = multiprocessing.Pipe(duplex=False)
        self._is_woken = threading.Event()
        self._thread = threading.Thread(target=self._supervise, name="compile pool", daemon=True)
        self._thread.start()

    def want(self, problem: Problem, configs: Iterable[AnyConfig]) -> None:
        """Compile these, the likeliest first, while nobody needs anything. They replace what was
        wanted for ``problem`` before."""
        self._orders.want(problem, configs)
        self._wake()

    def need(self, problem: Problem, config: AnyConfig) -> Future[CompiledAhead | None]:
        """Compile this before all that is only wanted. The future ends with None where the pool
        was closed or its processes do not start: then let the measuring process compile."""
        future = self._orders.need(problem, config)
        self._wake()
        return future

    def result(self, problem: Problem, config: AnyConfig) -> CompileResult | None:
        """What is known of a config by now; None: nothing yet. Starts nothing."""
        return self._orders.result(problem, config)

    def close(self) -> None:
        """End the processes at once. What is still needed ends with None."""
        self._is_closed = True
        self._wake()
        self._thread.join()

    def _wake(self) -> None:
        if not self._is_woken.is_set():
            self._is_woken.set()
            self._waker.send_bytes(b"!")

    # What follows runs in the pool's own thread: processes die with the thread that started them.

    def _supervise(self) -> None:
        try:
            while not self._is_closed:
                self._hand_out()
                self._collect()
                self._end_overdue()
        finally:
            self._is_closed = True
            self._orders.close()
            for compiler in self._compilers:
                compiler.process.kill()

    def _hand_out(self) -> None:
        for compiler in self._compilers:
            binary = self._next() if compiler.is_idle else None
            if binary is not None:
                compiler.submit(binary)
        starting = sum(not compiler.is_ready for compiler in self._compilers)
        room = self._jobs - len(self._compilers)
        for _ in range(min(room, self._orders.waiting - starting)):
            try:
                self._compilers.append(Compiler(self._open_compiler, self._limits))
            except OSError as error:  # no more processes, no more memory
                self._failed_start(str(error))
                return

    def _next(self) -> Binary | None:
        while (binary := self._orders.take()) is not None:
            known = self._cache.get(binary.key) if self._cache else None
            if not isinstance(known, CompileFailure):
                return binary  # Triton's own cache may lack what is known to be fine
            self._orders.note(binary, Answer(known, 0.0))
        return None

    def _collect(self) -> None:
        """Wait until something happens, and take it in."""
        left = [self._limit_s(c) - c.busy_s for c in self._compilers if not c.is_idle]
        if not self._compilers and self._orders.waiting:
            left = [_START_AGAIN_S]
        timeout = max(min(left), 0.0) if left else None
        by_connection = {compiler.process.link: compiler for compiler in self._compilers}
        for ready in wait([*by_connection, self._woken], timeout):
            if ready is self._woken:
                self._woken.recv_bytes()
                self._is_woken.clear()
            else:
                self._receive(by_connection[ready])  # type: ignore[index]

    def _receive(self, compiler: Compiler) -> None:
        binary, busy_s = compiler.binary, compiler.busy_s
        try:
            compiled = compiler.receive()
        except EOFError:
            self._died(compiler, binary, busy_s)
            return
        self._failed_starts = 0
        if compiled is None or binary is None:
            return
        if compiled.is_worn:
            self._end(compiler)
        if isinstance(compiled.result, Resources):
            self._usual_s.append(compiled.seconds)
        self._note(binary, Answer(compiled.result, compiled.seconds))

    def _died(self, compiler: Compiler, binary: Binary | None, busy_s: float) -> None:
        code = self._end(compiler, grace_s=EXIT_GRACE_S)
        if not compiler.is_ready:
            self._failed_start(exit_words(code))
        elif binary is None:
            return  # another is started when there is work
        elif code == -signal.SIGKILL and binary.key not in self._killed_once:
            # By somebody, or by the system for want of memory: perhaps not its own fault.
            self._killed_once.add(binary.key)
            self._orders.put_back(binary)
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
        self.spent.killed += 1
        self._note(binary, Answer(CompileFailure(reason, cause=cause), seconds))

    def _note(self, binary: Binary, answer: Answer) -> None:
        self.spent.binaries += 1
        self.spent.seconds += answer.seconds
        if self._cache is not None:
            self._cache.keep(binary.key, answer.result)
        self._orders.note(binary, answer)
