"""CPU processes that compile, into Triton's shared cache, what is likely to be asked next.

A measuring process then only loads, and a config whose compile hangs, crashes or takes all memory
has its result before any GPU sees it. Each binary is compiled once for all studies.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.reduction import send_handle
from multiprocessing.sharedctypes import RawArray

from autotune.backends.compile_cache import CompileCache
from autotune.backends.gpu.providers import PROVIDERS
from autotune.spec.device import Target
from autotune.tuning.compile_service.pool_process import (
    BINARIES,
    KILLED,
    NEW_CLIENT,
    SECONDS,
    StartCompiling,
    serve_pool,
)
from autotune.tuning.compile_service.process import Compile, CompileLimits, triton_compiler
from autotune.tuning.processes.killable import EXIT_GRACE_S, KillableProcess

_log = logging.getLogger(__name__)
_CONTEXT = multiprocessing.get_context("spawn")

MEMORY_BYTES = 4 * 2**30
"""A compile takes 0.1 GiB; a runaway one must not take the machine."""


@dataclass(frozen=True, slots=True)
class PoolSpent:
    """The work that a pool has done so far."""

    binaries: int = 0
    seconds: float = 0.0
    """Wall seconds of compiles, added over the processes; those of killed ones included."""
    killed: int = 0
    """Compiles that ended with their process: too slow, too large, crashed."""

    def __add__(self, other: PoolSpent) -> PoolSpent:
        return PoolSpent(
            self.binaries + other.binaries,
            self.seconds + other.seconds,
            self.killed + other.killed,
        )


def default_jobs(gpus: int = 0) -> int:
    """Return the processes that compile by default: as many as cores that this process may use,
    less one for each GPU that measures meanwhile, and at least 1."""
    usable = getattr(os, "sched_getaffinity", None)
    cores = len(usable(0)) if usable else os.cpu_count() or 1
    return max(1, cores - gpus)


def compiles_ahead(selector: str, provider: str) -> bool:
    """True if a pool is of use: an estimate is a compile, and a replay needs none."""
    return selector.startswith("cuda") and PROVIDERS[provider].compiles_ahead


class CompilePool:
    """The handle of a pool's process, which starts and imports at once.

    Clients connect when they start; what they ask for waits until the pool is started, when the
    device that it compiles for is known. Compile processes start when there is work for them, and
    end with ``close`` or with this process, however it dies.
    """

    def __init__(self, open_compiler: Callable[[], Compile]) -> None:
        """``open_compiler`` is pickled, and called in the pool's process: see ``provider_pool``."""
        self._spent = RawArray("d", 3)
        self._process: KillableProcess[StartCompiling | str, str] = KillableProcess(
            serve_pool, open_compiler, self._spent, has_children=True, is_quiet=True
        )
        self._is_closed = False

    @property
    def spent(self) -> PoolSpent:
        """The work done so far."""
        spent = self._spent
        return PoolSpent(int(spent[BINARIES]), spent[SECONDS], int(spent[KILLED]))

    def connect(self) -> Connection:
        """Return the far end of a new pipe, for a CompileClient of this process or of another. The
        caller closes it here once the other process has it."""
        ours, theirs = _CONTEXT.Pipe()
        with suppress(OSError):  # a pool that is gone: the far end finds nobody
            if not self._is_closed:
                self._process.link.send(NEW_CLIENT)
                send_handle(self._process.link, ours.fileno(), self._process.pid)
        ours.close()
        return theirs

    def start(
        self,
        target: Target,
        jobs: int,
        *,
        timeout_s: float = 60.0,
        memory_bytes: int = MEMORY_BYTES,
        cache: CompileCache | None = None,
    ) -> None:
        """Compile for ``target`` from now on, in ``jobs`` processes. ``timeout_s`` caps the time
        limit of one compile, which follows the median so far; ``memory_bytes`` is what one may take
        beyond what a process has at rest. ``cache`` keeps what the compiler said for later runs;
        failures in it are believed."""
        limits = CompileLimits(timeout_s, memory_bytes)
        self._process.send(StartCompiling(target, jobs, limits, cache))

    def hang_up(self) -> None:
        """Have the processes end while others are waited for. Whoever waits for a compile is told
        that the pool is gone."""
        if self._is_closed:
            return
        self._is_closed = True
        with suppress(EOFError, OSError):
            while self._process.link.poll():
                _log.warning(self._process.link.recv())
        self._process.link.close()

    def close(self) -> None:
        """Hang up, and wait until the processes have ended."""
        self.hang_up()
        self._process.kill(EXIT_GRACE_S)


def provider_pool(provider: str) -> CompilePool:
    """Start a pool that compiles what a provider launches."""
    return CompilePool(partial(triton_compiler, provider))
