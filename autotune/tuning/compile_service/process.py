"""A process that compiles, and may be killed in the middle: the child's side and its handle.

A compiler may loop for ever, abort in C++ or take all memory. Limits of the operating system hold
for the ptxas that it starts too; the parent kills the whole process group.
"""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from autotune.backends.binaries import Binary, compile_binary
from autotune.backends.gpu.providers import load_code
from autotune.errors import is_unwritable
from autotune.spec.device import Target
from autotune.spec.measurement import CompileFailure, CompileResult, FailureCause
from autotune.tuning.compile_service.queue import TimedCompile
from autotune.tuning.processes.killable import KillableProcess

Compile = Callable[[Binary, Target], CompileResult]
_MEMORY = FailureCause.MEMORY
_CPU_SPARE_S = 30
"""CPU seconds beyond the time limit after which the kernel ends a compiler, or a ptxas that it
left behind, of its own accord: for when the parent is no longer there to do it."""


@dataclass(frozen=True, slots=True)
class CompileLimits:
    """The limits of one compile."""

    timeout_s: float
    memory_bytes: int
    """Private memory beyond what the process takes at rest."""


def triton_compiler(provider: str) -> Compile:
    """Return Triton's compiler, with the provider's code imported. Creates no CUDA context."""
    os.environ["CUDA_VISIBLE_DEVICES"] = os.environ["HIP_VISIBLE_DEVICES"] = ""
    load_code(provider)
    return compile_binary


class Compiler:
    """Handle of one compile process: it becomes ready, then has a result for each binary."""

    def __init__(self, compile_it: Compile, target: Target, limits: CompileLimits) -> None:
        """The process is a fork of this one, and finds imported what is imported here."""
        self.process: KillableProcess[Binary, tuple[TimedCompile, bool] | None] = KillableProcess(
            _serve, compile_it, target, limits, leads_group=True, is_fork=True
        )
        self.binary: Binary | None = None
        """The compile that it works on."""
        self.is_ready = False
        self.is_worn = False
        """True where the process took much memory, which it may keep: let another go on."""
        self._since = time.monotonic()

    @property
    def is_idle(self) -> bool:
        return self.is_ready and self.binary is None

    @property
    def busy_s(self) -> float:
        """Seconds since the process was started or got its binary."""
        return time.monotonic() - self._since

    def submit(self, binary: Binary) -> None:
        """Have a binary compiled; only while the process is idle."""
        self.binary, self._since = binary, time.monotonic()
        self.process.send(binary)

    def receive(self) -> TimedCompile | None:
        """Return what it has compiled, or None when it has only become ready. Raises EOFError
        where it died."""
        message = self.process.receive()
        self.is_ready = True
        if message is None:
            return None
        self.binary = None
        result, self.is_worn = message
        return result


def _serve(link: Connection, compile_it: Compile, target: Target, limits: CompileLimits) -> None:
    """Say that the compiler is there by None, then compile what comes: the process's main."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        rest_bytes = _peak_bytes()
        link.send(None)
        while True:
            binary = link.recv()
            _limit(limits)
            begin = time.perf_counter()
            result = _compiled(compile_it, binary, target)
            seconds = time.perf_counter() - begin
            is_large = _peak_bytes() - rest_bytes > limits.memory_bytes // 2
            if isinstance(result, CompileFailure) and (is_large or result.cause is _MEMORY):
                result = _for_want_of_memory(result.reason, limits)
            link.send((TimedCompile(result, seconds), is_large))
    except (EOFError, OSError):
        return


def _compiled(compile_it: Compile, binary: Binary, target: Target) -> CompileResult:
    try:
        return compile_it(binary, target)
    except MemoryError:
        return CompileFailure("MemoryError", cause=_MEMORY)
    except Exception as error:  # noqa: BLE001  the process' edge: the config gets its result
        reason = f"the compiler failed: {type(error).__name__}: {error}".splitlines()[0]
        cause = FailureCause.DISK if is_unwritable(error) else FailureCause.CRASH
        return CompileFailure(reason, cause=cause)


def _for_want_of_memory(reason: str, limits: CompileLimits) -> CompileFailure:
    """Name the cause: the compiler has many words for it (MLIR: "PassManager::run failed")."""
    gib = limits.memory_bytes / 2**30
    reason = f"the compiler may take {gib:.2g} GiB of memory, and failed near that: {reason}"
    return CompileFailure(reason, cause=_MEMORY)


def _limit(limits: CompileLimits) -> None:
    """Anew for each compile, since a process lives long. RLIMIT_DATA counts private writable
    memory, so not the gigabytes of libraries that torch maps."""
    data = _private_bytes() + limits.memory_bytes
    used = resource.getrusage(resource.RUSAGE_SELF)
    cpu_s = int(used.ru_utime + used.ru_stime + limits.timeout_s) + _CPU_SPARE_S
    for kind, soft in ((resource.RLIMIT_DATA, data), (resource.RLIMIT_CPU, cpu_s)):
        _, hard = resource.getrlimit(kind)
        resource.setrlimit(kind, (soft if hard < 0 else min(soft, hard), hard))


def _private_bytes() -> int:
    """Return the memory that RLIMIT_DATA counts; 0 where the system does not say."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return 0
    return 1024 * int(status.partition("VmData:")[2].split()[0])


def _peak_bytes() -> int:
    """The most memory that this process or one that it started has taken; Linux counts in KiB."""
    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return 1024 * max(resource.getrusage(kind).ru_maxrss for kind in kinds)
