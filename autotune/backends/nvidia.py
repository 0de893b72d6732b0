"""NVIDIA's driver, asked by its management library (NVML): GPUs, clocks, who computes on them.

NVML needs no CUDA context, fails cleanly where there is no driver, and does not look at
CUDA_VISIBLE_DEVICES: see ``detect.visible_gpus``.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from threading import Thread
from typing import Any, TypeVar

import pynvml

_PATIENCE_S = 10.0
"""Seconds for an answer: a sick driver may never give one."""
_SLOWED = {
    0x2: "application clocks are set",
    0x4: "power cap",
    0x8: "hardware slowdown",
    0x20: "thermal limit (software)",
    0x40: "thermal limit (hardware)",
    0x80: "power brake",
}
"""Bits of nvmlClocksThrottleReasons that mean a lower clock than the GPU could have."""
_UNSAID = (
    pynvml.NVMLError_NotSupported,
    pynvml.NVMLError_NoPermission,
    pynvml.NVMLError_FunctionNotFound,
)
"""Errors of one question to a sound GPU: virtual, split by MIG, or under an old driver."""

Said = TypeVar("Said")


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU as the driver reports it; None is what it does not say."""

    index: int
    """NVML's, which is that of nvidia-smi."""
    name: str = ""
    driver: str = ""
    sm_mhz: int | None = None
    max_sm_mhz: int | None = None
    slowed: tuple[str, ...] = ()
    """Why its clocks are lower than they could be, in words; idling is no reason."""
    processes: tuple[str, ...] | None = None
    """PID and name of each process that computes on it."""
    fault: str = ""
    """Why the driver says nothing else of it, in its words: "GPU is lost"."""


@dataclass(frozen=True, slots=True)
class DriverFault:
    """NVML is installed and has no answer: no driver is loaded, another one than its, or a hung
    one."""

    reason: str


def nvidia_gpus() -> int:
    """Return how many GPUs NVML counts; 0 where there is no driver, or one that does not answer."""
    count = _asked(pynvml.nvmlDeviceGetCount)
    return count if isinstance(count, int) else 0


def gpus() -> list[Gpu] | DriverFault | None:
    """Return every GPU that this user may use; None where NVML, and so a driver, is not
    installed."""
    return _asked(_gpus)


def _asked(question: Callable[[], Said]) -> Said | DriverFault | None:
    """Return the answer, or that there is none in time: C code that hangs leaves a thread behind,
    which ends with the process."""
    late = DriverFault(f"the NVIDIA driver gives no answer within {_PATIENCE_S:g} s")
    answers: list[Said | DriverFault | None] = [late]
    thread = Thread(target=lambda: answers.append(_answer(question)), daemon=True)
    thread.start()
    thread.join(_PATIENCE_S)
    return answers[-1]


def _answer(question: Callable[[], Said]) -> Said | DriverFault | None:
    try:
        pynvml.nvmlInit()
        try:
            return question()
        finally:
            pynvml.nvmlShutdown()
    except pynvml.NVMLError_LibraryNotFound:
        return None
    except (pynvml.NVMLError, UnicodeDecodeError) as error:
        return DriverFault(f"the NVIDIA driver does not answer: {error}")


def _gpus() -> list[Gpu]:
    driver = pynvml.nvmlSystemGetDriverVersion()
    found = (_gpu(index, driver) for index in range(pynvml.nvmlDeviceGetCount()))
    return [gpu for gpu in found if gpu is not None]


def _gpu(index: int, driver: str) -> Gpu | None:
    """Return the GPU, or None for one that is somebody else's: a job sees only its own."""
    try:
        return _described(index, driver, pynvml.nvmlDeviceGetHandleByIndex(index))
    except pynvml.NVMLError_NoPermission:
        return None
    except pynvml.NVMLError as error:
        return Gpu(index, driver=driver, fault=str(error))


def _described(index: int, driver: str, handle: Any) -> Gpu:
    slowed = _said(pynvml.nvmlDeviceGetCurrentClocksThrottleReasons, handle) or 0
    running = _said(pynvml.nvmlDeviceGetComputeRunningProcesses, handle)
    return Gpu(
        index,
        name=pynvml.nvmlDeviceGetName(handle),
        driver=driver,
        sm_mhz=_said(pynvml.nvmlDeviceGetClockInfo, handle, pynvml.NVML_CLOCK_SM),
        max_sm_mhz=_said(pynvml.nvmlDeviceGetMaxClockInfo, handle, pynvml.NVML_CLOCK_SM),
        slowed=tuple(words for bit, words in _SLOWED.items() if slowed & bit),
        processes=None if running is None else tuple(_words(one.pid) for one in running),
    )


def _said(ask: Callable[..., Said], *arguments: Any) -> Said | None:
    with suppress(*_UNSAID):
        return ask(*arguments)
    return None


def _words(pid: int) -> str:
    """Return "PID NAME"; the PID alone of a process that has just ended, or of a container that
    hides it."""
    with suppress(pynvml.NVMLError, UnicodeDecodeError):
        return f"{pid} {pynvml.nvmlSystemGetProcessName(pid)}"
    return str(pid)
