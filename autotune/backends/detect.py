"""Finds GPUs without torch and without a CUDA context.

``torch.cuda.is_available()`` takes seconds to import, and a process that has asked it cannot
fork safely; a context takes 0.3 to 0.5 GB of device memory.
"""

from __future__ import annotations

import itertools
from pathlib import Path

from autotune.backends.nvidia import nvidia_gpus

_KFD_NODES = Path("/sys/class/kfd/kfd/topology/nodes")
"""AMD's compute driver lists CPUs here too, with GPU id 0."""


def has_gpu() -> bool:
    """True where a driver reports at least one NVIDIA or AMD compute GPU."""
    return nvidia_gpus() > 0 or amd_gpus() > 0


def visible_gpus(mask: str | None) -> int:
    """Return how many GPUs PyTorch would number, from 0, under a driver's mask: like
    CUDA_VISIBLE_DEVICES, indices or UUIDs of which those after the first invalid one are hidden.
    None: no mask."""
    count = nvidia_gpus() or amd_gpus()
    if mask is None:
        return count
    words = [word.strip() for word in mask.split(",")]
    names = itertools.takewhile(lambda word: _is_gpu(word, count), words)
    return min(len(list(names)), count)


def amd_gpus(nodes: Path = _KFD_NODES) -> int:
    """Return how many GPUs AMD's driver lists under ``nodes``."""
    ids = (path.read_text(encoding="ascii").strip() for path in nodes.glob("*/gpu_id"))
    return sum(1 for gpu_id in ids if gpu_id not in ("", "0"))


def _is_gpu(word: str, count: int) -> bool:
    return int(word) < count if word.isdigit() else word.startswith(("GPU-", "MIG-"))
