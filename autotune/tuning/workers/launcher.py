"""Starts a run's workers on this machine, or on the nodes of a Ray cluster."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import product

from autotune.backends.detect import visible_gpus
from autotune.backends.gpu.providers import OURS
from autotune.backends.selectors import check_selector
from autotune.errors import DeviceError, UsageError
from autotune.settings import ALL_GPUS, RunSettings
from autotune.tuning.compile_service.pool import CompilePool
from autotune.tuning.processes.killable import ProcessHandle
from autotune.tuning.workers.launch_ray import connected
from autotune.tuning.workers.protocol import WorkerSpec, worker_name
from autotune.tuning.workers.supervisor import Start
from autotune.tuning.workers.worker_process import start_worker

_MASKS = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES")
"""The drivers' own variables: PyTorch counts GPUs under them, and so do we."""

SpecsOf = Callable[[Collection[str]], list[WorkerSpec]]
"""Returns what the workers of these providers are started with."""


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
        self,
        settings: RunSettings,
        storage: str,
        log_level: int,
        pools: Mapping[str, CompilePool],
    ) -> Iterator[tuple[SpecsOf, Start]]:
        """Yield what workers of given providers are started with, and how one is started, while
        this lasts. Each device has a worker for each provider; they take turns on it. Workers of
        this machine have their configs compiled by ``pools``, others compile for themselves.

        Raises DeviceError where there is no such GPU, UsageError where the cluster or the storage
        will not do.
        """
        if self.ray_address is None:
            specs_of = partial(worker_specs, settings, storage, log_level)
            yield specs_of, partial(_start_here, pools)
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
            names = [(str(number), device) for number in range(count)]
            specs_of = partial(_specs, settings, storage, log_level, names)
            # Those of several kernels take turns on a GPU; of one kernel, each has its own.
            share = 1 / len(set(settings.providers.values()))
            yield specs_of, cluster.starter(start_worker, gpus=share if on_gpus else 0)


def worker_specs(
    settings: RunSettings, storage: str, log_level: int, providers: Collection[str] = (OURS,)
) -> list[WorkerSpec]:
    """Return one worker for each GPU and provider, or as many as were asked for where no GPU is
    needed.

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
    named = list(zip(map(str, numbers), devices, strict=True))
    return _specs(settings, storage, log_level, named, providers)


def _specs(
    settings: RunSettings,
    storage: str,
    log_level: int,
    devices: Sequence[tuple[str, str]],
    providers: Collection[str],
) -> list[WorkerSpec]:
    """Return a worker for each (name, device) and provider."""
    return [
        WorkerSpec(
            device,
            replace(settings.measurer_options, provider=provider, output_dir=settings.output_dir),
            storage,
            number,
            worker_name(name, provider),
            log_level,
            settings.sampler,
        )
        for number, ((name, device), provider) in enumerate(product(devices, providers))
    ]


def _start_here(pools: Mapping[str, CompilePool], spec: WorkerSpec) -> ProcessHandle:
    return start_worker(spec, pools.get(spec.options.provider))


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
