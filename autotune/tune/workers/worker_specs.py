"""Which workers a run starts, and on which device each."""

from __future__ import annotations

import os

from autotune.backends.detect import visible_gpus
from autotune.backends.selectors import check_selector
from autotune.errors import DeviceError
from autotune.settings import ALL_GPUS, RunSettings
from autotune.tune.workers.protocol import WorkerSpec

_MASKS = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES")
"""The drivers' own variables: PyTorch counts GPUs under them, and so do we."""


def worker_specs(settings: RunSettings, storage: str, log_level: int) -> list[WorkerSpec]:
    """One worker for each GPU, or as many as were asked for where none is needed.

    Raises DeviceError for a misspelt device, and where there is no such model of a GPU, recording
    or number of ``--gpus``; whether a GPU can be used is its worker's to say.
    """
    check_selector(settings.device)
    kind, _, rest = settings.device.partition(":")
    if kind == "cuda":
        numbers = [int(rest)] if rest else _gpus(settings.gpus)
        devices = [f"cuda:{number}" for number in numbers]
    else:
        numbers = list(range(settings.jobs))
        devices = [settings.device] * settings.jobs
    return [
        WorkerSpec(device, settings.measurer_options, storage, number, log_level, settings.sampler)
        for number, device in zip(numbers, devices, strict=True)
    ]


def _gpus(words: str) -> list[int]:
    masks = (os.environ[name] for name in _MASKS if name in os.environ)
    count = visible_gpus(next(masks, None))
    if words == ALL_GPUS:
        return list(range(max(count, 1)))  # none: the worker says what PyTorch sees
    numbers = [int(word) for word in words.split(",")]
    if count and (missing := [number for number in numbers if number >= count]):
        raise DeviceError(
            f"--gpus {words}: there is no GPU {missing[0]}; {count} are visible (see nvidia-smi "
            "and CUDA_VISIBLE_DEVICES, which renumbers them from 0)"
        )
    return numbers
