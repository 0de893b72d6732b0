"""autotune with a replayed GPU and a pretended compiler, both of which fail on command.

    CHAOS_FOLDER=folder python benchmarks/survival/faulty.py run --device cuda …

Every process that it spawns imports this file as its main module, and with it the faults. They are
real: a process that aborts in C, reads a null pointer, sleeps for ever, or takes memory until its
limit. ``folder`` holds what chaos.py and these processes tell each other:

    recording.npz the times
    workers       how many GPUs there are
    measure_ms    how long a measurement takes
    orders/KIND   the next measurement shall fail so (once; whoever takes it deletes it)
    faults.log    one line for each fault that happened: kind, process, config
    gpu.log       one line for each measurement: process
    compile.log   one line for each compile: process

To everybody else the device is a GPU, so that a compile pool works for it.
"""

from __future__ import annotations

import ctypes
import os
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from autotune.backends.binaries import Binary, GemmBinary
from autotune.backends.protocol import Measurer, MeasurerOptions
from autotune.backends.replay.measurer import ReplayMeasurer
from autotune.spec.config import Config
from autotune.spec.device import DeviceKind, Target
from autotune.spec.measurement import CompileFailure, Resources
from autotune.studies.outcome import TrialResult
from autotune.tuning.compile_service import pool, process
from autotune.tuning.processes.killable import KillableProcess
from autotune.tuning.workers import launcher, worker_process

ORDERS = ("hang", "abort")
_COMPILE_S = 0.02
_AGES = 3600.0


def fault_of(tokens: int, config: Config) -> str:
    """How measuring this config always ends, where it does not end well. None of them is near
    the fastest of the recording (landscape.save_landscape)."""
    if not is_slow(config) or config.num_stages != 2 or config.group_size_m != 16:
        return ""
    if tokens % 3 != 1 or config.block_size_k != 64:
        return ""
    return "config that aborts" if config.block_size_m == 16 else "config that reads address 0"


def compile_fault_of(config: Config) -> str:
    """The same of compiling it."""
    if not is_slow(config) or config.num_stages != 4:
        return ""
    kinds = ("compiler hangs", "compiler crashes", "compiler eats memory", "compiler raises")
    return kinds[2 * (config.block_size_k == 128) + (config.block_size_m == 32)]


def is_slow(config: Config) -> bool:
    """Of the recording's family that is never the fastest."""
    return config.block_size_n == 64 and config.num_warps == 8


def folder() -> Path:
    """Where everybody meets."""
    return Path(os.environ["CHAOS_FOLDER"])


def log(name: str, *words: object) -> None:
    """Append a line by one write."""
    line = " ".join(map(str, words)) + "\n"
    handle = os.open(folder() / name, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(handle, line.encode())
    finally:
        os.close(handle)


def install() -> None:
    """Put the faults into this process, and what it spawns."""
    KillableProcess.imports_script = True
    launcher.visible_gpus = lambda _mask: int((folder() / "workers").read_text())
    worker_process.open_measurer = pretended_gpu
    process.triton_compiler = pretended_compiler
    pool.triton_compiler = pretended_compiler


class FaultyGpu(ReplayMeasurer):
    """Replays, slowly, and fails on command."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.device = replace(self.device, kind=DeviceKind.CUDA)

    def measure(self, problem: Any, config: Any, **options: Any) -> TrialResult:
        log("gpu.log", os.getpid(), config)
        begin = time.monotonic()
        time.sleep(float((folder() / "measure_ms").read_text()) / 1000)
        fault = fault_of(problem.tokens, config) or _ordered(problem.tokens, config)
        if fault and is_faulty():
            log("faults.log", fault, "|", os.getpid(), f"M={problem.tokens}", config)
            _fail(fault)
        result = super().measure(problem, config, **options)
        return replace(result, measure_s=time.monotonic() - begin)


def pretended_gpu(_selector: str, _options: MeasurerOptions) -> Measurer:
    """In place of autotune.backends.selectors.open_measurer."""
    return FaultyGpu(folder() / "recording.npz")


def is_faulty() -> bool:
    """False in the run that shows what a run without faults finds."""
    return os.environ.get("CHAOS_FAULTS") != "none"


def _ordered(tokens: int, config: Config) -> str:
    """What chaos.py has ordered for the next measurement. A config is struck once: one that
    ends a child twice is rightly given up."""
    for kind in ORDERS:
        if not (folder() / "orders" / kind).exists():
            continue
        mark = folder() / "struck" / f"{tokens} {config}"
        try:
            mark.touch(exist_ok=False)
            (folder() / "orders" / kind).unlink()
        except OSError:
            return ""
        return "measurement hangs" if kind == "hang" else "measurement aborts"
    return ""


def pretended_compiler(_provider: str) -> process.Compile:
    """In place of Triton's."""
    return _compile


def _compile(binary: Binary, _target: Target) -> Resources | CompileFailure:
    assert isinstance(binary, GemmBinary)
    log("compile.log", os.getpid(), binary.config)
    time.sleep(_COMPILE_S)
    fault = compile_fault_of(binary.config)
    if fault and is_faulty():
        log("faults.log", fault, "|", os.getpid(), binary.config)
        _fail(fault)
    return Resources(registers=64, spill_bytes=0, shared_bytes=1024)


def _fail(fault: str) -> None:
    if "hangs" in fault:
        time.sleep(_AGES)
    if "address 0" in fault:
        ctypes.string_at(0)
    if "memory" in fault:
        taken: list[bytes] = []
        while True:
            taken.append(b"\1" * 2**26)
    if "raises" in fault:
        raise ValueError("a compiler's bug")
    os.abort()


install()

if __name__ == "__main__":
    from autotune.cli import run_command_line

    sys.exit(run_command_line(sys.argv[1:]))
