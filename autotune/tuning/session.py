"""``run``: from settings to finished studies and engine files."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from optuna.storages import BaseStorage

from autotune.backends.binaries import gemm_binaries
from autotune.backends.compile_cache import FILE_NAME, CompileCache, say_where_not_kept
from autotune.backends.gpu.providers import AUTO, OURS, chosen_providers
from autotune.backends.selectors import open_measurer
from autotune.errors import AutotuneError
from autotune.settings import RunSettings
from autotune.shown import counted
from autotune.spec.device import Device
from autotune.spec.problem import Problem
from autotune.studies.key import StudyKey
from autotune.studies.storage.open import opened
from autotune.studies.storage.retry import retry_storage
from autotune.studies.storage.watch import StorageWatch
from autotune.tuning.compile_service.client import CompileClient
from autotune.tuning.compile_service.first_builds import FirstBuilds, builds_ahead
from autotune.tuning.compile_service.pool import (
    CompilePool,
    PoolSpent,
    compiles_ahead,
    default_jobs,
    provider_pool,
)
from autotune.tuning.file_writer import FileWriter, check_output
from autotune.tuning.finished import are_finished, described_here, ended_studies
from autotune.tuning.jobs import Job
from autotune.tuning.observer import RunMonitor, RunObserver, RunStart
from autotune.tuning.open_studies import guesses_of, open_studies, starts, terms_of
from autotune.tuning.processes.signals import Interrupt
from autotune.tuning.rescue import StorageGuard
from autotune.tuning.run_models import RunModel, RunModels
from autotune.tuning.run_report import RunReport, model_report, unfinished
from autotune.tuning.tuning_study import StudyPlan
from autotune.tuning.workers.launcher import Launcher
from autotune.tuning.workers.protocol import DescribedSpace
from autotune.tuning.workers.supervisor import Described, WorkerSupervisor

_log = logging.getLogger(__name__)
LOCAL = Launcher()
_Question = tuple[str, tuple[Problem, ...]]
"""A provider, and problems of one model that its device is asked to describe."""


def run(
    settings: RunSettings,
    storage_url: str,
    *observers: RunObserver,
    launcher: Launcher = LOCAL,
    is_our_process: bool = True,
) -> RunReport:
    """Tune everything that ``settings`` names; whatever is in the storage is not done again.

    Other runs on the same storage, here or elsewhere, join the same work. Engine files are written
    every few seconds, and at the end. Raises AutotuneError for what the user can mend,
    KeyboardInterrupt where the user interrupted before the search. ``Interrupt`` says what signals
    do in a process that is ours, and in another.
    """
    with _Session(settings, storage_url, observers, launcher, is_our_process) as session:
        with session.guard.judging():
            session.search()
            session.measure_finals()
        session.write_files()
    return session.report()


class _Session:
    """The workers, the storage and the studies of a run, held from its start to its end. Whatever
    was opened is closed in reverse order, also where opening the next thing fails."""

    def __init__(
        self,
        settings: RunSettings,
        storage_url: str,
        observers: Sequence[RunObserver],
        launcher: Launcher,
        is_our_process: bool,
    ) -> None:
        self._began = time.monotonic()
        self._observers = observers
        self._storage_url, self._launcher = storage_url, launcher
        self._models = RunModels(settings)
        self._settings = replace(settings, engines=self._models.engines)
        self._pools: dict[str, CompilePool] = {}
        self._storage: BaseStorage | None = None
        self._interrupt = Interrupt(self._say, self._clear, is_ours=is_our_process)
        self._stack = ExitStack()

    def __enter__(self) -> _Session:
        with self._stack as stack:
            stack.enter_context(self._interrupt)
            if not self._finds_all_finished(stack):
                self._start_workers(stack)
                self._open_studies()
            self._interrupt.check()
            self._supervisor.begin(self._plans, self._settings, self._settings.timeout_s)
            self._device = self._plans[0].key.device
            start = RunStart(
                self._models.studies(self._studies),
                self._device,
                self._studies,
                self._history,
                self._settings.output_dir,
            )
            stack.push(self._close_observers)
            for observer in self._observers:
                observer.started(start)
            self.writer = FileWriter(self._studies, self._settings.output_dir)
            self.guard = StorageGuard(self._storage_url, self._watch, self._studies, self._settings)
            self._supervisor.judge = self.guard.look
            observers = [*self._observers, self.writer, self.guard]
            self._monitor = RunMonitor(self._studies, observers)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        if not self._supervisor.is_at_work:
            for pool in self._pools.values():  # it ends while workers do
                pool.hang_up()
        self._stack.__exit__(*error)

    def search(self) -> None:
        """Listen to the workers, which search already, until nothing is left, time is over, or the
        user interrupts."""
        self._monitor.search(self._supervisor, self._interrupt)
        for study in self._studies:
            retry_storage(study.view.read)

    def measure_finals(self) -> None:
        """Have the workers measure every study's finalists again, unless the user interrupted."""
        if not self._interrupt.requested:
            self._monitor.measure_finals(self._supervisor, self._interrupt)

    def write_files(self) -> None:
        """Write the engine files as the run leaves them. Where studies are not finished, an entry
        that was not compared stays: who goes on may compare it."""
        self.writer.write(is_final=not unfinished(self._studies))

    def report(self) -> RunReport:
        """Sum up the run, once it is closed."""
        writer, pools = self.writer, list(self._pools.values())
        results = {study.key.study_name: tuple(study.results()) for study in self._studies}
        models = self._models.studies(self._studies)
        return RunReport(
            models=tuple(model_report(model, results) for model in models),
            left_out=self._models.left_out,
            device=self._device,
            files=writer.files,
            measured=sum(len(study.measured) for study in self._studies) - self._measured_before,
            interrupted=self._interrupt.requested,
            unfinished=unfinished(self._studies),
            seconds=time.monotonic() - self._began,
            began_s=self._began,
            device_times=self._monitor.device_times,
            ahead=sum((p.spent for p in pools), PoolSpent()) if pools else None,
        )

    def _finds_all_finished(self, stack: ExitStack) -> bool:
        """Open the studies without a worker, where the storage has them, nothing is left of any,
        and no GPU has to be asked for their spaces: an estimate or a replay. False where workers
        are needed."""
        settings = self._settings
        if not self._launcher.is_local or settings.device.startswith("cuda"):
            return False
        ended = ended_studies(self._storage_url, terms_of(settings))
        if not ended:
            return False
        measurer = open_measurer(settings.device, settings.measurer_options)
        stack.callback(measurer.close)
        chosen = chosen_providers(settings.provider, settings.engines, on_gpu=False)
        self._chosen, self._devices = chosen, {OURS: measurer.device}
        questions = _questions(self._models.jobs(chosen))
        try:
            answers = {q: tuple(described_here(measurer, q[1])) for q in questions}
        except AutotuneError:  # of one of several models, perhaps: the usual way leaves it out
            return False
        names = {
            StudyKey(problem, measurer.device, described.space.fingerprint).study_name
            for (_, problems), spaces in answers.items()
            for problem, described in zip(problems, spaces, strict=True)
        }
        if not names <= ended:
            return False
        self._open_storage(stack)
        self._make_studies(answers)
        if not are_finished(self._studies):
            return False
        _log.info("everything is done already: no worker is started")
        self._supervisor = WorkerSupervisor([])
        return True

    def _open_storage(self, stack: ExitStack) -> None:
        """Open the storage for the whole run, unless it is open."""
        if self._storage is not None:
            return
        check_output(self._settings.output_dir)
        self._watch = StorageWatch(self._storage_url)
        stack.callback(self._watch.close)
        self._storage = stack.enter_context(opened(self._storage_url, create=True))
        self._watch.begin(self._storage)

    def _start_workers(self, stack: ExitStack) -> None:
        """Start the workers, and what compiles for them, and wait for their devices. An engine
        that cannot be used is left out and said, unless it was asked for, and ours stands in."""
        settings, launcher, level = self._settings, self._launcher, _log.getEffectiveLevel()
        if not settings.device.startswith("replay"):
            say_where_not_kept(settings.cache_dir)
        on_gpu = settings.device.startswith("cuda")
        chosen = chosen_providers(settings.provider, settings.engines, on_gpu=on_gpu)
        questions = _questions(self._models.jobs(chosen))
        for provider in dict.fromkeys(provider for provider, _ in questions):
            self._open_pool(provider)
        for provider, problem in _first_calls(questions):
            self._build_first(provider, problem)
        self._specs_of, start = stack.enter_context(
            launcher.specs(settings, self._storage_url, level, self._pools)
        )
        specs = self._specs_of(list(dict.fromkeys(chosen.values())))
        workers = counted(len(specs), "worker")
        _log.info("waiting for %s to be opened by %s", settings.device, workers)
        self._open_storage(stack)
        may_fail = set(chosen.values()) - {OURS} if settings.provider == AUTO else ()
        self._supervisor = WorkerSupervisor(specs, start, may_fail, self._interrupt.check)
        stack.callback(self._supervisor.close)
        self._gpus = len({spec.device for spec in specs})
        self._supervisor.ask(questions, guesses_of(settings))
        self._devices = self._supervisor.ready(self._start_pool)
        for provider, reason in self._supervisor.refused.items():
            _log.warning("%s is left out, and our kernel stands in: %s", provider, reason)
            chosen |= {engine: OURS for engine, name in chosen.items() if name == provider}
        if set(chosen.values()) - self._devices.keys():
            self._open_pool(OURS)
            self._supervisor.add(self._specs_of([OURS]))
            self._devices = self._supervisor.ready()
        self._chosen = chosen
        for provider in self._pools.keys() - self._devices.keys():
            self._pools.pop(provider).close()
        for provider, device in self._devices.items():
            self._start_pool(provider, device)

    def _open_pool(self, provider: str) -> None:
        """Start what compiles ahead for a provider, where that is of use: it imports meanwhile."""
        settings = self._settings
        is_wanted = self._launcher.is_local and settings.compile_jobs != 0
        if is_wanted and compiles_ahead(settings.device, provider):
            self._pools[provider] = provider_pool(provider)
            self._stack.callback(self._pools[provider].close)

    def _build_first(self, provider: str, problem: Problem) -> None:
        """Have built what the provider's first call would wait for: all batch sizes call it."""
        settings = self._settings
        is_wanted = self._launcher.is_local and settings.compile_jobs != 0
        if is_wanted and builds_ahead(settings.device, provider):
            self._stack.callback(FirstBuilds(provider, problem).close)

    def _start_pool(self, provider: str, device: Device) -> None:
        """Tell a provider's pool what to compile for; pools share the cores that GPUs leave."""
        settings, pool = self._settings, self._pools.get(provider)
        if pool is None:
            return
        jobs = default_jobs(self._gpus) if settings.compile_jobs is None else settings.compile_jobs
        path = settings.cache_dir / FILE_NAME
        cache = CompileCache(path, device.target) if provider == OURS else None
        share = -(-jobs // len(self._pools))
        pool.start(device.target, share, timeout_s=settings.compile_timeout_s, cache=cache)

    def _open_studies(self) -> None:
        """Plan a study for each job as its device describes its space, and open them."""
        settings = self._settings
        questions = _questions(self._models.jobs(self._chosen))
        answers = self._supervisor.describe(questions, guesses_of(settings))
        self._make_studies(dict(zip(questions, answers, strict=True)))

    def _make_studies(self, described: Mapping[_Question, Described]) -> None:
        """Make or find the studies of every model."""
        settings, storage = self._settings, self._storage
        assert storage is not None
        self._plans = self._models.plan(lambda model: self._plans_of(model, described))
        if OURS in self._pools:
            _prefetch(self._pools[OURS], self._plans, settings)
        self._studies, self._history = retry_storage(
            lambda: open_studies(storage, self._plans, settings),
            is_hurried=lambda: self._interrupt.requested,
        )
        self._plans = [study.plan for study in self._studies]  # they know whose the files are
        self._measured_before = sum(len(study.measured) for study in self._studies)

    def _plans_of(
        self, model: RunModel, described: Mapping[_Question, Described]
    ) -> list[StudyPlan]:
        """Raises the AutotuneError with which its device refuses one of the problems."""
        jobs = model.jobs(self._settings.kernel, self._chosen)
        spaces: dict[str, Iterator[DescribedSpace]] = {}
        for provider, problems in _questions([jobs]):
            answer = described[provider, problems]
            if isinstance(answer, AutotuneError):
                self._interrupt.check()  # who is to end is sent a signal, often with its workers
                raise answer
            spaces[provider] = iter(answer)
        return [self._plan(model, job, next(spaces[job.provider])) for job in jobs]

    def _plan(self, model: RunModel, job: Job, described: DescribedSpace) -> StudyPlan:
        device, output_dir = self._devices[job.provider], self._settings.output_dir
        return StudyPlan(
            job,
            StudyKey(job.problem, device, described.space.fingerprint),
            described.space,
            described.prior_us,
            job.incumbents(device, output_dir, described.own_config),
            model.settings if self._settings.more_models else None,
            model.label,
        )

    def _say(self, words: str) -> None:
        for observer in self._observers:
            observer.interrupted(words)

    def _clear(self) -> None:
        for observer in self._observers:
            observer.stopped()

    def _close_observers(self, kind: type[BaseException] | None, *_: object) -> None:
        for observer in self._observers:
            observer.close(lambda: kind is not None or self._interrupt.requested)


def _questions(jobs: Iterable[Iterable[Job]]) -> list[_Question]:
    """Return each model's problems by their provider, those that models share once."""
    found = []
    for of_model in jobs:
        problems: dict[str, list[Problem]] = {}
        for job in of_model:
            problems.setdefault(job.provider, []).append(job.problem)
        found += [(provider, tuple(each)) for provider, each in problems.items()]
    return list(dict.fromkeys(found))


def _first_calls(questions: Iterable[_Question]) -> list[tuple[str, Problem]]:
    """Return a problem for each provider and kind of layer whose first call builds the same."""
    found = {
        (name, p.dtype, p.block_shape, p.per_channel_quant, p.gated): (name, p)
        for name, problems in questions
        for p in problems[:1]
    }
    return list(found.values())


def _prefetch(pool: CompilePool, plans: Sequence[StudyPlan], settings: RunSettings) -> None:
    """Have compiled what every study of our kernel measures first, while the studies are made. An
    engine's child says itself what it launches."""
    client = CompileClient[None](pool.connect())
    for plan, first in starts(plans, settings):
        if plan.job.provider == OURS:
            problem, configs = plan.job.problem, dict.fromkeys(config for config, _ in first)
            wanted = [config for config in configs if config in plan.space]
            client.prefetch(problem, [gemm_binaries(problem, config) for config in wanted])
    client.close()
