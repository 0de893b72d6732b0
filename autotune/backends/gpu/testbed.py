"""A testbed is what the providers of a process share: a GPU or the CPU, its clock, its tensors."""

from __future__ import annotations

import fcntl
import os
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import torch

from autotune.backends.gpu.providers import ProviderSite
from autotune.backends.gpu.tensor_cache import TensorCache, usual_room
from autotune.backends.host_facts import triton_version
from autotune.backends.protocol import INSTANCES, MeasurerOptions
from autotune.errors import DeviceError
from autotune.kernels.timing import REST, Clock, CudaClock, EventTimer, GraphTimer, Timer, Work
from autotune.spec.device import Device, DeviceKind, Target

METHOD = "whole layer, 4"
"""The call that is timed (alignment, both GEMMs, activation, sum; of separate kernels the GEMMs
alone), and the revision of how: since 2 the GPU rests after long calls, since 3 a tile begins
sooner, since 4 the K loop keeps about as few registers as SGLang's."""

_CPU = ProviderSite("cpu", Target("cuda", 90))
"""The CPU as a site. The dtypes' storage types are those of the target; nothing is compiled."""
_CPU_CACHE_BYTES = 64 << 20
"""More than the last level of most CPUs' caches."""


@dataclass(frozen=True, slots=True)
class TimedDevice:
    """A GPU that this process has taken, or the CPU."""

    site: ProviderSite
    facts: Device | None
    """Facts that studies are about; None for the CPU, which nobody tunes for."""
    clock: Clock
    uuid: str = ""
    """Tells GPUs of a machine apart, whatever indices a process has for them."""


class Testbed:
    """A device on which the providers of a process run and are timed, with their tensors."""

    __test__ = False
    """Nothing that pytest should collect."""

    def __init__(
        self,
        device: TimedDevice,
        options: MeasurerOptions,
        *,
        instances: int = INSTANCES,
        room_bytes: Callable[[], int] = usual_room,
        rest: float = REST,
    ) -> None:
        """``instances`` routings of a problem are measured; ``room_bytes`` as ``TensorCache`` has
        it, ``rest`` as ``REST``."""
        self.site, self.facts, self.seed = device.site, device.facts, options.seed
        self.tensors = TensorCache(self.site, self.seed, instances, room_bytes)
        warm = not options.cold_l2
        kind = EventTimer if self.site.is_gpu else _CpuTimer
        self._events = kind(device.clock, warm=warm, rest=rest)
        self._graph = GraphTimer(device.clock, warm=warm, rest=rest)
        self._lock = _lock_of(device.uuid) if device.uuid else None
        self._is_taken = False

    @contextmanager
    def taken(self) -> Iterator[float]:
        """Have the GPU alone while open, of all processes of this user that measure on it: what
        another one runs would count as ours. A process that dies gives it back; while it has the
        GPU, it may take it again. Yields the seconds that it waited."""
        if self._lock is None or self._is_taken:
            yield 0.0
            return
        asked = time.perf_counter()
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        self._is_taken = True
        try:
            yield time.perf_counter() - asked
        finally:
            self._is_taken = False
            fcntl.flock(self._lock, fcntl.LOCK_UN)

    def timer(self, *, is_capturable: bool) -> Timer:
        """Return the timer for a layer; see ``ProviderLayer.is_capturable``."""
        return self._graph if self.site.is_gpu and is_capturable else self._events


def _where_to_look() -> str:
    """Return what says which GPUs there are, for the PyTorch that is installed."""
    if torch.version.hip:
        return "rocm-smi and HIP_VISIBLE_DEVICES"
    return "nvidia-smi and CUDA_VISIBLE_DEVICES"


def take_device(index: int | None, options: MeasurerOptions) -> TimedDevice:
    """Take GPU ``index``, or for None the CPU. Raises DeviceError where there is no such GPU."""
    if index is None:
        return TimedDevice(_CPU, None, HostClock())
    count = torch.cuda.device_count()
    if index >= count:
        raise DeviceError(
            f"no GPU {index}: PyTorch sees {count}; check {_where_to_look()}, "
            "or use --device estimate:NVIDIA_H200 (compare: --device cpu)"
        )
    torch.cuda.set_device(index)
    torch.backends.cuda.matmul.allow_tf32 = False  # the reference is true fp32
    properties = torch.cuda.get_device_properties(index)
    facts = device_of(properties, cold_l2=options.cold_l2)
    site = ProviderSite(f"cuda:{index}", facts.target, options.cache_dir)
    uuid = str(getattr(properties, "uuid", index))
    return TimedDevice(site, facts, CudaClock(properties.L2_cache_size), uuid)


def device_of(properties: Any, *, cold_l2: bool) -> Device:
    """Return the GPU's facts, from torch's properties of it."""
    if torch.version.hip is not None:
        target = Target("hip", properties.gcnArchName.partition(":")[0], properties.warp_size)
        shared_bytes = properties.shared_memory_per_block  # AMD's blocks cannot ask for more
    else:
        target = Target("cuda", 10 * properties.major + properties.minor, properties.warp_size)
        shared_bytes = properties.shared_memory_per_block_optin
    return Device(
        kind=DeviceKind.CUDA,
        name=properties.name,
        target=target,
        shared_bytes=int(shared_bytes),
        triton_version=triton_version(),
        method=f"{METHOD}, {'cold' if cold_l2 else 'warm'} L2",
    )


def _lock_of(uuid: str) -> TextIO:
    """Return the file by which processes of one user take turns on a GPU. Raises DeviceError where
    somebody else made its folder, which all may write beside."""
    folder = Path(tempfile.gettempdir()) / f"autotune-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    made = folder.lstat()
    if not stat.S_ISDIR(made.st_mode) or made.st_uid != os.getuid():
        raise DeviceError(f"{folder} is not yours: remove it, or set TMPDIR to another folder")
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW
    return os.fdopen(os.open(folder / f"gpu-{uuid}.lock", flags, 0o600), "a")


class HostClock:
    """Times layers that run on the CPU by the host's own clock. Implements ``timing.Clock``:
    there is nothing to capture, since calls return when they are done."""

    def __init__(self, cache_bytes: int = _CPU_CACHE_BYTES) -> None:
        """Holds a buffer of ``cache_bytes``: written, little of anything older stays cached."""
        self._buffer = torch.empty(cache_bytes, dtype=torch.int8)

    def capture(self, call: Work) -> Work:
        return call

    def flush(self) -> None:
        self._buffer.zero_()

    def elapsed_us(self, work: Work) -> float:
        begin = time.perf_counter_ns()
        work()
        return (time.perf_counter_ns() - begin) / 1000

    def rest(self, us: float) -> None:
        """Do nothing: a CPU's clock is not what is at stake here."""


class _CpuTimer(EventTimer):
    @property
    def how(self) -> str:
        return super().how.replace("events", "CPU, the host's clock").replace("L2", "caches")
