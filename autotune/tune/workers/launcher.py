"""Where a run's workers are: on this machine, or on the nodes of a Ray cluster."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

from autotune.errors import UsageError
from autotune.settings import ALL_GPUS, RunSettings
from autotune.tune.compile_service.service import PoolHost
from autotune.tune.workers.launch_ray import connected
from autotune.tune.workers.protocol import WorkerSpec
from autotune.tune.workers.supervisor import Start
from autotune.tune.workers.worker_process import start_worker
from autotune.tune.workers.worker_specs import worker_specs


@dataclass(frozen=True, slots=True)
class Launcher:
    """Of this machine, unless ``ray_address`` names a cluster ("auto": the one of this machine)."""

    ray_address: str | None = None

    @property
    def is_local(self) -> bool:
        return self.ray_address is None

    @contextmanager
    def specs(
        self, settings: RunSettings, storage: str, log_level: int, host: PoolHost
    ) -> Iterator[tuple[list[WorkerSpec], Start]]:
        """What each worker is started with, and how one is started, while this lasts. Workers of
        this machine have what they need compiled by ``host``, others compile for themselves.

        Raises DeviceError where there is no such GPU, UsageError where the cluster or the storage
        will not do.
        """
        if self.ray_address is None:
            yield worker_specs(settings, storage, log_level), partial(start_worker, host=host)
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
