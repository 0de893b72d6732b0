"""A library of NVIDIA's driver that is not there: the C functions that nvidia-ml-py calls.

The real nvidia-ml-py runs on top, so that how its functions are called, and what they raise, is
its own.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pynvml
import pytest

H200 = "NVIDIA H200"
MHZ = 1980
DRIVER = "570.124.06"


@dataclass(frozen=True)
class FakeGpu:
    """A GPU, and the error code of each C function that has none but this answer."""

    sm_mhz: int = MHZ
    slowed: int = 0x1
    """Idle."""
    processes: Mapping[int, str] = field(default_factory=dict)
    errors: Mapping[str, int] = field(default_factory=dict)


class FakeNvml:
    """``libnvidia-ml.so.1``: what pynvml finds in the place of a loaded library."""

    def __init__(self, gpus: Sequence[FakeGpu], *, init: int = pynvml.NVML_SUCCESS) -> None:
        self._gpus = gpus
        self._init = init

    def nvmlInitWithFlags(self, flags: int) -> int:  # noqa: N802
        return self._init

    def nvmlShutdown(self) -> int:  # noqa: N802
        return pynvml.NVML_SUCCESS

    def nvmlSystemGetDriverVersion(self, text: Any, size: Any) -> int:  # noqa: N802
        text.value = DRIVER.encode()
        return pynvml.NVML_SUCCESS

    def nvmlSystemGetProcessName(self, pid: Any, text: Any, size: Any) -> int:  # noqa: N802
        names = {pid: name for gpu in self._gpus for pid, name in gpu.processes.items()}
        if not names[pid.value]:
            return pynvml.NVML_ERROR_NOT_FOUND
        text.value = names[pid.value].encode("latin-1")
        return pynvml.NVML_SUCCESS

    def nvmlDeviceGetCount_v2(self, count: Any) -> int:  # noqa: N802
        count._obj.value = len(self._gpus)
        return pynvml.NVML_SUCCESS

    def nvmlDeviceGetHandleByIndex_v2(self, index: Any, handle: Any) -> int:  # noqa: N802
        ctypes.cast(handle, ctypes.POINTER(ctypes.c_void_p))[0] = index.value + 1
        return self._error(handle._obj, "nvmlDeviceGetHandleByIndex_v2")

    def nvmlDeviceGetName(self, handle: Any, text: Any, size: Any) -> int:  # noqa: N802
        text.value = H200.encode()
        return self._error(handle, "nvmlDeviceGetName")

    def nvmlDeviceGetClockInfo(self, handle: Any, kind: Any, mhz: Any) -> int:  # noqa: N802
        assert kind.value == pynvml.NVML_CLOCK_SM
        mhz._obj.value = self._gpu(handle).sm_mhz
        return self._error(handle, "nvmlDeviceGetClockInfo")

    def nvmlDeviceGetMaxClockInfo(self, handle: Any, kind: Any, mhz: Any) -> int:  # noqa: N802
        assert kind.value == pynvml.NVML_CLOCK_SM
        mhz._obj.value = MHZ
        return self._error(handle, "nvmlDeviceGetMaxClockInfo")

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, handle: Any, mask: Any) -> int:  # noqa: N802
        mask._obj.value = self._gpu(handle).slowed
        return self._error(handle, "nvmlDeviceGetCurrentClocksThrottleReasons")

    def nvmlDeviceGetComputeRunningProcesses_v3(  # noqa: N802
        self, handle: Any, count: Any, processes: Any
    ) -> int:
        found = self._gpu(handle).processes
        room, count._obj.value = count._obj.value, len(found)
        if room < len(found):
            return pynvml.NVML_ERROR_INSUFFICIENT_SIZE
        for place, pid in enumerate(found):
            processes[place].pid = pid
        return self._error(handle, "nvmlDeviceGetComputeRunningProcesses_v3")

    def _gpu(self, handle: Any) -> FakeGpu:
        return self._gpus[(ctypes.cast(handle, ctypes.c_void_p).value or 0) - 1]

    def _error(self, handle: Any, function: str) -> int:
        return self._gpu(handle).errors.get(function, pynvml.NVML_SUCCESS)


class HungNvml(FakeNvml):
    """A driver that never answers."""

    def nvmlInitWithFlags(self, flags: int) -> int:  # noqa: N802
        threading.Event().wait()
        return pynvml.NVML_SUCCESS


def install(monkeypatch: pytest.MonkeyPatch, library: FakeNvml | None) -> None:
    """Have pynvml find this library, or none, until the test ends."""

    def no_library(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(pynvml, "nvmlLib", library)
    monkeypatch.setattr(pynvml, "_nvmlGetFunctionPointer_cache", {})
    monkeypatch.setattr(pynvml, "_nvmlLib_refcount", 0)
    monkeypatch.setattr(pynvml, "CDLL", no_library)
