"""Starts a run's workers on this machine, or on the nodes of a Ray cluster."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

from autotune.backends.detect import visible_gpus
from autotune.backends.selectors import check_selector
from autotune.errors import DeviceError, UsageError
from autotune.settings import ALL_GPUS, RunSettings
from autotune.tune.compile_service.pool import CompilePool
from autotune.tune.workers.launch_ray import connected
from autotune.tune.workers.protocol import WorkerSpec
from autotune.tune.workers.supervisor import Start
from autotune.tune.workers.worker_process import start_worker

_MASKS = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES")
"""The drivers' own variables: PyTorch counts GPUs under them, and so do we."""


@dataclass(frozen=True, slots=True)
class Launcher:
    """Starts workers on this machine, unless ``ray_address`` names a cluster ("auto": the one of
    this machine)."""

    ray_address: str | None = None

    @property
    def is_local(self) -> bool:
        return self.ray_address is None

    @contextmanager
    def specs(
        self, settings: RunSettings, storage: str, log_level: int, pool: CompilePool
    ) -> Iterator[tuple[list[WorkerSpec], Start]]:
        """Yield what each worker is started with, and how one is started, while this lasts. Workers
        of this machine have their configs compiled by ``pool``, others compile for themselves.

        Raises DeviceError where there is no such GPU, UsageError where the cluster or the storage
        will not do.
        """
        if self.ray_address is None:
            yield worker_specs(settings, storage, log_level), partial(start_worker, pool=pool)
            return
        with connected(self.ray_address, storage) as cluster:
            on_gpus = settings.device.startswith("cuda")
            if on_gpus and (settings.device, settings.gpus) != ("cuda", ALL_GPUS):
                raise UsageError(
                    "with --launcher ray, Ray chooses the GPUs: leave --gpus out, and say "
                    "--device cuda"
                )
            count = cluster.free_gpus if on_gpus else settings.jobs
            # A worker sees the one GPU that Ray gave it, whose index is then 0.
            device = "cuda:0" if on_gpus else settings.device
            spec = WorkerSpec(
                device, settings.measurer_options, storage, 0, log_level, settings.sampler
            )
            specs = [replace(spec, number=number) for number in range(count)]
            yield specs, cluster.starter(start_worker, gpus=int(on_gpus))


def worker_specs(settings: RunSettings, storage: str, log_level: int) -> list[WorkerSpec]:
    """Return one worker for each GPU, or as many as were asked for where none is needed.

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
