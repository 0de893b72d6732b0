"""A worker's process: opens its device, and does what its parent asks until the link closes."""

from __future__ import annotations

import logging
import queue
import signal
import threading
import time
import traceback
from contextlib import ExitStack
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

from autotune.backends.compile_cache import FILE_NAME, CompileCache
from autotune.backends.protocol import Measurer
from autotune.backends.selectors import open_measurer
from autotune.errors import AutotuneError
from autotune.settings import RunSettings
from autotune.studies.coordination.leases import Census, Lease
from autotune.studies.search.surrogate.model import thread_pools
from autotune.studies.storage.open import open_storage
from autotune.studies.storage.retry import retry_storage
from autotune.tune.compile_service.client import CompileClient
from autotune.tune.compile_service.pool import CompilePool, compiles_ahead
from autotune.tune.cross_routing import cross
from autotune.tune.finals import measure_finalists
from autotune.tune.open_studies import join_studies
from autotune.tune.processes.child import Child
from autotune.tune.processes.killable import KillableProcess, ProcessHandle
from autotune.tune.tuning_study import TuningStudy
from autotune.tune.workers.protocol import (
    DescribeSpaces,
    FinalsMeasured,
    Leave,
    LogLine,
    MeasureFinals,
    SpacesDescribed,
    StartSearch,
    WorkerCrashed,
    WorkerReady,
    WorkerSpec,
)
from autotune.tune.workers.worker_loop import InFlightTrial, Worker

_LAST = object()
_SEND_S = 2.0
"""Seconds that a parent that hears nothing may cost a worker that ends."""


class ParentChannel:
    """A worker's view of its parent: takes reports, brings specs, may ask to leave."""

    def __init__(self, link: Connection) -> None:
        self._link = link
        self._waiting: list[Any] = []
        self._leave_at: float | None = None
        self._outbox: queue.SimpleQueue[object] = queue.SimpleQueue()
        self._sender = threading.Thread(target=self._send_all, name="reports", daemon=True)
        self._sender.start()

    def leave(self) -> None:
        """Leave as if the parent had asked for it."""
        self._leave_at = self._leave_at or time.monotonic()

    @property
    def requested(self) -> bool:
        """True once the parent has asked to leave, or is gone."""
        try:
            while self._leave_at is None and self._link.poll():
                self._take(self._link.recv())
        except (EOFError, OSError):
            self.leave()
        return self._leave_at is not None

    @property
    def since_s(self) -> float:
        """Seconds since then."""
        return 0.0 if self._leave_at is None else time.monotonic() - self._leave_at

    def send(self, message: object) -> None:
        """Thread-safe, and returns at once: a parent that draws a picture for seconds, while the
        link fills, must not hold up a GPU. One that is gone hears nothing."""
        self._outbox.put(message)

    def close(self) -> None:
        """Wait a little until everything is sent."""
        self._outbox.put(_LAST)
        self._sender.join(_SEND_S)

    def next(self) -> Any:
        """The next spec; None when it is time to end."""
        while not self._waiting and self._leave_at is None:
            try:
                if self._link.poll(1.0):  # returns, so that a signal's handler is heard
                    self._take(self._link.recv())
            except (EOFError, OSError):
                return None
        return self._waiting.pop(0) if self._waiting and self._leave_at is None else None

    def _send_all(self) -> None:
        while (message := self._outbox.get()) is not _LAST:
            try:
                self._link.send(message)
            except OSError:
                self.leave()
                return

    def _take(self, message: object) -> None:
        if isinstance(message, Leave):
            self.leave()
        else:
            self._waiting.append(message)


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
        self._spec = spec
        self._compiles = CompileClient[InFlightTrial](compiles)
        self._parent_channel = parent_channel
        self._stack = stack
        if spec.sampler == "surrogate":
            threading.Thread(target=thread_pools, name="libraries", daemon=True).start()
        self._child = Child(partial(open_measurer, spec.device, spec.options))
        stack.callback(self._child.close)
        # while the device opens: eight workers that do this and nothing else wait for a core
        self._storage = retry_storage(lambda: open_storage(spec.storage, create=False))
        stack.callback(self._storage.remove_session)
        self._studies: list[TuningStudy] = []
        self._settings: RunSettings | None = None

    def run(self) -> None:
        self._device = self._child.call(Measurer.device)
        self._parent_channel.send(WorkerReady(self._device))
        while (message := self._parent_channel.next()) is not None:
            if isinstance(message, DescribeSpaces):
                self._describe(message)
            elif isinstance(message, StartSearch):
                self._work(message)
            elif isinstance(message, MeasureFinals):
                self._measure_finals(message.position)

    def _describe(self, message: DescribeSpaces) -> None:
        described = []
        for problem in message.problems:
            space = self._child.call(Measurer.space, problem)
            prior_us = self._child.call(Measurer.prior_us, problem, space.configs)
            described.append((space, prior_us))
        self._parent_channel.send(SpacesDescribed(tuple(described)))

    def _work(self, begin: StartSearch) -> None:
        deadline = None if begin.seconds is None else time.monotonic() + begin.seconds
        self._settings = settings = begin.settings
        storage = self._storage
        is_ahead = compiles_ahead(self._device, settings.provider)
        compiled = None
        if is_ahead:
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
                deadline=deadline,
                start_at=self._spec.number,
                compiles=self._compiles if is_ahead else None,
            )
            self._parent_channel.send(worker.run())

    def _is_leaving(self) -> bool:
        return self._parent_channel.requested

    def _measure_finals(self, position: int) -> None:
        assert self._settings is not None
        study = self._studies[position]
        retry_storage(study.refresh)
        for measure in (measure_finalists, cross):
            measure(study, self._child, self._is_leaving, self._settings.run_timeout_s)
        self._parent_channel.send(FinalsMeasured(position, tuple(study.finalists)))


class _Reporter(logging.Handler):
    """Log lines go to the parent, whose display they must not tear."""

    def __init__(self, parent_channel: ParentChannel) -> None:
        super().__init__()
        self._parent_channel = parent_channel

    def emit(self, record: logging.LogRecord) -> None:
        self._parent_channel.send(LogLine(record.levelno, record.getMessage()))


def serve(link: Connection, spec: WorkerSpec, compiles: Connection | None = None) -> None:
    """Be a worker until the parent says that it is enough, or is gone. Without ``compiles``, the
    pipe to a compile pool, the device's process compiles."""
    parent_channel = ParentChannel(link)
    signal.signal(signal.SIGTERM, lambda *_: parent_channel.leave())
    log = logging.getLogger("autotune")
    log.handlers = [_Reporter(parent_channel)]
    log.setLevel(spec.log_level)
    log.propagate = False
    try:
        with ExitStack() as stack:
            _WorkerProcess(spec, parent_channel, stack, compiles).run()
    except AutotuneError as error:
        parent_channel.send(error)
    except Exception:  # noqa: BLE001  the process's edge: the parent decides
        parent_channel.send(WorkerCrashed(traceback.format_exc()))
    parent_channel.close()
    link.close()
