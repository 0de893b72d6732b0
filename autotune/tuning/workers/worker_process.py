"""A worker's process: opens its device, and does what its parent asks until the link closes."""

from __future__ import annotations

import logging
import signal
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from logging.handlers import QueueHandler
from multiprocessing.connection import Connection

from autotune.backends.compile_cache import FILE_NAME, CompileCache
from autotune.backends.gpu.providers import OURS, PROVIDERS
from autotune.backends.protocol import Measurer, guessed_spaces
from autotune.backends.selectors import open_measurer
from autotune.errors import AutotuneError, StorageFailedError
from autotune.settings import RunSettings
from autotune.spec.config import AnyConfig
from autotune.spec.device import Device
from autotune.spec.problem import Problem
from autotune.studies.coordination.leases import Census, Lease
from autotune.studies.search.surrogate.model import thread_pools
from autotune.studies.storage.open import open_storage
from autotune.studies.storage.retry import failure_words, is_damage, retry_storage
from autotune.tuning.compile_service.client import CompileClient
from autotune.tuning.compile_service.pool import CompilePool, compiles_ahead
from autotune.tuning.cross_routing import cross
from autotune.tuning.finals import measure_finalists
from autotune.tuning.open_studies import join_studies, promising
from autotune.tuning.processes.child import Call, Child
from autotune.tuning.processes.killable import KillableProcess, ProcessHandle
from autotune.tuning.time_line import Cause, TimeLine
from autotune.tuning.tuning_study import TuningStudy
from autotune.tuning.workers.child_calls import InFlightTrial, Known
from autotune.tuning.workers.protocol import (
    DescribedSpace,
    DescribeSpaces,
    FinalsMeasured,
    MeasureFinals,
    ParentChannel,
    SpacesDescribed,
    StartSearch,
    WorkerCrashed,
    WorkerReady,
    WorkerSpec,
)
from autotune.tuning.workers.scheduler import first_position
from autotune.tuning.workers.worker_loop import Worker


def start_worker(spec: WorkerSpec, pool: CompilePool | None = None) -> ProcessHandle:
    """Start a worker in a process of its own on this machine, which dies with us. ``pool`` compiles
    for it."""
    compiles = pool.connect() if pool is not None else None
    process: ProcessHandle = KillableProcess(serve, spec, compiles, has_children=True)
    if compiles is not None:
        compiles.close()
    return process


class _WorkerProcess:
    """A worker's device, storage and studies, from its first order to its last."""

    def __init__(
        self,
        spec: WorkerSpec,
        parent_channel: ParentChannel,
        stack: ExitStack,
        compiles: Connection | None,
    ) -> None:
        self._spec, self._provider = spec, spec.options.provider
        self._compiles = CompileClient[InFlightTrial](compiles)
        self._parent_channel = parent_channel
        self._stack = stack
        self._time_line = TimeLine()
        self._known = Known()
        if spec.sampler == "surrogate":
            threading.Thread(target=thread_pools, name="libraries", daemon=True).start()
        self._child = Child(partial(open_measurer, spec.device, spec.options))
        stack.callback(self._child.close)
        self._child.submit(Call.of(Measurer.device))
        # while the device opens: eight workers that do this and nothing else wait for a core
        self._storage = retry_storage(lambda: open_storage(spec.storage, create=False))
        stack.callback(self._storage.remove_session)
        self._studies: list[TuningStudy] = []
        self._settings: RunSettings | None = None

    def run(self) -> None:
        self._device: Device = self._child.value()
        self._time_line.turn_to(Cause.STUDIES)
        self._parent_channel.send(WorkerReady(self._device))
        while (message := self._parent_channel.next()) is not None:
            if isinstance(message, DescribeSpaces):
                self._describe(message)
            elif isinstance(message, StartSearch):
                self._work(message)
            elif isinstance(message, MeasureFinals):
                self._measure_finals(message.position)

    def _describe(self, message: DescribeSpaces) -> None:
        self._time_line.turn_to(Cause.DESCRIBE)
        answer: tuple[DescribedSpace, ...] | AutotuneError
        try:
            answer = tuple(self._described(message))
        except AutotuneError as error:  # of these problems; others may be measured
            answer = error
        self._time_line.turn_to(Cause.STUDIES)
        self._parent_channel.send(SpacesDescribed(answer))

    def _described(self, message: DescribeSpaces) -> Iterator[DescribedSpace]:
        spaces = self._child.call(guessed_spaces, message.problems)
        favourites = promising(spaces, message.guesses)
        for problem, guessed, first in zip(message.problems, spaces, favourites, strict=True):
            own = self._child.call(Measurer.own_config, problem)
            self._compile_early(problem, [*([] if own is None else [own]), *first])
            yield DescribedSpace(*guessed, own)

    def _compile_early(self, problem: Problem, configs: Sequence[AnyConfig]) -> None:
        """Have an engine's launches compiled while studies are made. Ours need no device: the
        parent knows them."""
        if self._compiles.connection is not None and PROVIDERS[self._provider].engine:
            question = self._known.question(problem, (), tuple(configs))
            binaries = self._child.call(Measurer.binaries, problem, question.configs)
            self._known.tell(problem, question.configs, binaries)
            self._compiles.prefetch(problem, self._known.of(problem, configs))

    def _work(self, begin: StartSearch) -> None:
        self._settings = settings = begin.settings
        storage = self._storage
        provider = self._provider
        is_ahead = compiles_ahead(self._spec.device, provider)
        compiled = None
        if is_ahead and provider == OURS:
            path = self._spec.options.cache_dir / FILE_NAME
            compiled = CompileCache(path, self._device.target)
        self._studies = retry_storage(
            lambda: join_studies(
                storage, begin.plans, settings, worker=self._spec.number, compiled=compiled
            )
        )
        with Lease(storage, self._spec.device) as lease:
            worker = Worker(
                self._studies,
                self._child,
                lease=lease,
                census=retry_storage(lambda: Census(storage)),
                parent=self._parent_channel,
                run_timeout_s=settings.run_timeout_s,
                seconds=begin.seconds,
                start_at=first_position(begin.plans, self._spec.number),
                compiles=self._compiles if is_ahead else None,
                asks_child=bool(PROVIDERS[provider].engine),
                own=[i for i, plan in enumerate(begin.plans) if plan.job.provider == provider],
                time_line=self._time_line,
                known=self._known,
            )
            self._parent_channel.send(worker.run())

    def _is_leaving(self) -> bool:
        return self._parent_channel.requested

    def _measure_finals(self, position: int) -> None:
        assert self._settings is not None
        study = self._studies[position]
        retry_storage(study.view.read)
        for measure in (measure_finalists, cross):
            measure(study, self._child, self._is_leaving, self._settings.run_timeout_s)
        self._parent_channel.send(FinalsMeasured(position, tuple(study.finalists)))


def serve(link: Connection, spec: WorkerSpec, compiles: Connection | None = None) -> None:
    """Be a worker until the parent says that it is enough, or is gone. Without ``compiles``, the
    pipe to a compile pool, the device's process compiles."""
    parent_channel = ParentChannel(link)
    signal.signal(signal.SIGTERM, lambda *_: parent_channel.leave())
    log = logging.getLogger("autotune")
    log.handlers = [QueueHandler(parent_channel.outbox)]  # lines here would tear a display
    log.setLevel(spec.log_level)
    log.propagate = False
    try:
        with ExitStack() as stack:
            _WorkerProcess(spec, parent_channel, stack, compiles).run()
    except AutotuneError as error:
        parent_channel.send(error)
    except Exception as error:  # noqa: BLE001  the process's edge: the parent decides
        lost = StorageFailedError(failure_words(error)) if is_damage(error) else None
        parent_channel.send(lost or WorkerCrashed(traceback.format_exc()))
    parent_channel.close()
    link.close()
