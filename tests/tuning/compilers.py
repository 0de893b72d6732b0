"""Compilers that misbehave on command: the binary's num_stages says how."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from autotune.backends.binaries import Binary, GemmBinary, gemm_binaries
from autotune.spec.config import AnyConfig
from autotune.spec.device import Target
from autotune.spec.measurement import CompileFailure, Resources
from autotune.spec.problem import Problem
from autotune.tuning.compile_service import pool_process
from autotune.tuning.compile_service.client import CompileClient
from autotune.tuning.compile_service.process import Compile
from autotune.tuning.compile_service.queue import TimedCompile

FINE, ABORT, HANG, RAISE, EAT, REFUSE, KILLED_ONCE, GRANDCHILD, FULL = range(2, 11)
SOME = Resources(registers=32, spill_bytes=0, shared_bytes=1024)
PATIENCE_S = 60.0
"""For what a test waits for: no figure, only an end to a hanging test."""


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def answer_of(
    client: CompileClient[Any], problem: Problem, config: AnyConfig
) -> TimedCompile | None:
    """Wait for one config; None where there is no pool."""
    item, found = object(), []

    def is_there() -> bool:
        found.extend(result for each, result in client.compiled() if each is item)
        return bool(found)

    client.request(item, gemm_binaries(problem, config))
    wait_until(is_there)
    return found[0]


def faulty_compiler(folder: Path) -> Compile:
    """Notes each compile in ``folder``/log as (process, BLOCK_SIZE_M) in one line."""

    def compile_binary(binary: Binary, target: Target) -> Resources | CompileFailure:
        assert isinstance(binary, GemmBinary)
        with (folder / "log").open("a") as log:
            log.write(f"{os.getpid()} {binary.config.block_size_m}\n")
        return _behave(binary.config.num_stages, folder)

    return compile_binary


def impatient_compiler(folder: Path) -> Compile:
    """As ``faulty_compiler``, in a pool that waits half a second after three compiles."""
    pool_process._MEDIAN_FROM, pool_process._LEAST_LIMIT_S = 3, 0.5
    return faulty_compiler(folder)


def broken_compiler(folder: Path) -> Compile:
    """Does not even start."""
    with (folder / "log").open("a") as log:
        log.write(f"{os.getpid()} 0\n")
    os.abort()


def _behave(how: int, folder: Path) -> Resources | CompileFailure:
    if how == ABORT:
        os.abort()
    if how == HANG:
        time.sleep(3600)
    if how == RAISE:
        raise ValueError("a bug of ours\nand more")
    if how == FULL:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if how == EAT:
        assert [b"\1" * 2**24 for _ in range(64)]  # 1 GiB
    if how == REFUSE:
        return CompileFailure("error: no such dot")
    if how == KILLED_ONCE and not (folder / "killed").exists():
        (folder / "killed").touch()
        os.kill(os.getpid(), 9)
    if how == GRANDCHILD:
        ptxas = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"])
        (folder / "grandchild").write_text(str(ptxas.pid))
        ptxas.wait()
    return SOME
