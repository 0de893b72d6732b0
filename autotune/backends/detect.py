"""Finds GPUs without torch and without a CUDA context.

``torch.cuda.is_available()`` takes seconds to import, and a process that has asked it cannot
fork safely; a context takes 0.3 to 0.5 GB of device memory. The management library (NVML)
needs neither, and fails cleanly where there is no driver. It does not look at
CUDA_VISIBLE_DEVICES: see ``visible_gpus``.
"""

from __future__ import annotations

import ctypes
import itertools
from pathlib import Path

_NVML = "libnvidia-ml.so.1"
_KFD_NODES = Path("/sys/class/kfd/kfd/topology/nodes")
"""AMD's compute driver lists CPUs here too, with GPU id 0."""


def has_gpu() -> bool:
    """True where a driver reports at least one NVIDIA or AMD compute GPU."""
    return nvidia_gpus() > 0 or amd_gpus(_KFD_NODES) > 0


def visible_gpus(mask: str | None) -> int:
    """Return how many GPUs PyTorch would number, from 0, under a driver's mask: like
    CUDA_VISIBLE_DEVICES, indices or UUIDs of which those after the first invalid one are hidden.
    None: no mask."""
    count = nvidia_gpus() or amd_gpus(_KFD_NODES)
    if mask is None:
        return count
    words = [word.strip() for word in mask.split(",")]
    names = itertools.takewhile(lambda word: _is_gpu(word, count), words)
    return min(len(list(names)), count)


def _is_gpu(word: str, count: int) -> bool:
    return int(word) < count if word.isdigit() else word.startswith(("GPU-", "MIG-"))


def nvidia_gpus() -> int:
    """Return how many GPUs NVML sees; 0 where there is no driver."""
    try:
        nvml = ctypes.CDLL(_NVML)
    except OSError:
        return 0
    if nvml.nvmlInit_v2() != 0:
        return 0
    try:
        count = ctypes.c_uint(0)
        status = nvml.nvmlDeviceGetCount_v2(ctypes.byref(count))
        return count.value if status == 0 else 0
    finally:
        nvml.nvmlShutdown()


def amd_gpus(nodes: Path) -> int:
    """Return how many GPUs AMD's driver lists under ``nodes``."""
    ids = (path.read_text(encoding="ascii").strip() for path in nodes.glob("*/gpu_id"))
    return sum(1 for gpu_id in ids if gpu_id not in ("", "0"))
