"""``run``: from settings to finished studies and engine files."""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from autotune.backends.binaries import gemm_binaries
from autotune.backends.compile_cache import FILE_NAME, CompileCache
from autotune.backends.gpu.providers import AUTO, OURS, chosen_providers
from autotune.engines import WrittenFile
from autotune.errors import EngineFileError
from autotune.models.shape import ModelShape
from autotune.settings import RunSettings
from autotune.spec.device import Device
from autotune.spec.problem import Problem
from autotune.studies.key import StudyKey
from autotune.studies.outcome import TrialResult
from autotune.studies.storage.open import opened
from autotune.studies.storage.retry import retry_storage
from autotune.studies.storage.watch import StorageWatch
from autotune.tune.compile_service.client import CompileClient
from autotune.tune.compile_service.first_builds import FirstBuilds, builds_ahead
from autotune.tune.compile_service.pool import (
    CompilePool,
    PoolSpent,
    compiles_ahead,
    default_jobs,
    provider_pool,
)
from autotune.tune.engine_output import Result, write_files
from autotune.tune.jobs import Job, jobs_of, model_shape
from autotune.tune.observer import RunMonitor, RunObserver, RunStart
from autotune.tune.open_studies import guesses_of, open_studies, starts
from autotune.tune.processes.signals import Interrupt
from autotune.tune.rescue import StorageGuard
from autotune.tune.serving import serving
from autotune.tune.time_line import DeviceTime
from autotune.tune.tuning_study import StudyPlan, TuningStudy
from autotune.tune.workers.launcher import Launcher
from autotune.tune.workers.protocol import DescribedSpace
from autotune.tune.workers.supervisor import WorkerSupervisor

_log = logging.getLogger(__name__)
LOCAL = Launcher()
_WRITE_S = 10.0
"""Age that engine files may reach while studies are searched round-robin: a run that is killed
leaves them."""


@dataclass(frozen=True, slots=True)
class RunReport:
    """The end of a run, summed up."""

    shape: ModelShape
    device: Device
    results: tuple[Result, ...]
    files: tuple[WrittenFile, ...]
    failed: dict[str, str]
    """Study name → why it has no measured winner."""
    measured: int
    """New measurements of this run."""
    interrupted: bool
    unfinished: int
    """Studies that have not all their measurements."""
    seconds: float
    began_s: float = 0.0
    """When it began, on the machine's clock."""
    device_times: Mapping[str, DeviceTime] = field(default_factory=dict)
    """What each worker's device did, by the worker's name."""
    ahead: PoolSpent | None = None
    """Compiles ahead of the devices; None without a compile pool."""


def run(
    settings: RunSettings, storage_url: str, *observers: RunObserver, launcher: Launcher = LOCAL
) -> RunReport:
    """Tune everything that ``settings`` names; whatever is in the storage is not done again.

    Other runs on the same storage, here or elsewhere, join the same work. Engine files are written
    every few seconds, and at the end. Raises AutotuneError for what the user can mend,
    KeyboardInterrupt where the user interrupted before the search.
    """
    with _Session(settings, storage_url, observers, launcher) as session:
        with session.guard.judging():
            session.search()
            session.measure_finals()
        session.writer.write()
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
    ) -> None:
        self._began = time.monotonic()
        self._observers = observers
        self._storage_url, self._launcher = storage_url, launcher
        self._shape = model_shape(settings.model)
        self._serve = serving(self._shape, settings.model, settings.engines)
        self._settings = replace(settings, engines=tuple(e.name for e in self._serve))
        self._pools: dict[str, CompilePool] = {}
        self._interrupt = Interrupt(self._say, self._clear)
        self._stack = ExitStack()

    def __enter__(self) -> _Session:
        with self._stack as stack:
            stack.enter_context(self._interrupt)
            self._start_workers(stack)
            self._open_studies()
            self._interrupt.check()
            self._supervisor.begin(self._plans, self._settings, self._settings.timeout_s)
            self._device = self._plans[0].key.device
            start = RunStart(
                self._shape, self._device, self._studies, self._history, self._settings.output_dir
            )
            stack.push(self._close_observers)
            for observer in self._observers:
                observer.started(start)
            self.writer = _Writer(self._studies, self._settings.output_dir)
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

    def report(self) -> RunReport:
        """Sum up the run, once it is closed."""
        studies, writer, pools = self._studies, self.writer, list(self._pools.values())
        return RunReport(
            shape=self._shape,
            device=self._device,
            results=tuple(writer.results()),
            files=writer.files,
            failed={
                study.key.study_name: study.ended or "nothing was measured yet"
                for study in studies
                if study.best_us is None
            },
            measured=sum(len(study.measured) for study in studies) - self._measured_before,
            interrupted=self._interrupt.requested,
            unfinished=sum(s.end is None and len(s.measured) < s.target for s in studies),
            seconds=time.monotonic() - self._began,
            began_s=self._began,
            device_times=self._monitor.device_times,
            ahead=sum((p.spent for p in pools), PoolSpent()) if pools else None,
        )

    def _start_workers(self, stack: ExitStack) -> None:
        """Start the workers, and what compiles for them, and wait for their devices. An engine
        that cannot be used is left out and said, unless it was asked for, and ours stands in."""
        settings, launcher, level = self._settings, self._launcher, _log.getEffectiveLevel()
        on_gpu = settings.device.startswith("cuda")
        chosen = chosen_providers(settings.provider, settings.engines, on_gpu=on_gpu)
        for provider, problems in _problems(self._jobs(chosen)).items():
            self._open_pool(provider)
            self._build_first(provider, problems[0])
        self._specs_of, start = stack.enter_context(
            launcher.specs(settings, self._storage_url, level, self._pools)
        )
        specs = self._specs_of(list(dict.fromkeys(chosen.values())))
        _check_output(settings.output_dir)
        self._watch = StorageWatch(self._storage_url)
        stack.callback(self._watch.close)
        self._storage = stack.enter_context(opened(self._storage_url, create=True))
        self._watch.begin(self._storage)
        may_fail = set(chosen.values()) - {OURS} if settings.provider == AUTO else ()
        self._supervisor = WorkerSupervisor(specs, start, may_fail, self._interrupt.check)
        stack.callback(self._supervisor.close)
        self._gpus = len({spec.device for spec in specs})
        self._supervisor.ask(_problems(self._jobs(chosen)), guesses_of(settings))
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

    def _jobs(self, chosen: Mapping[str, str]) -> list[Job]:
        model, kernel, engines = self._settings.model, self._settings.kernel, self._settings.engines
        return jobs_of(self._shape, model, engines, kernel, chosen, serve=self._serve)

    def _open_studies(self) -> None:
        """Plan a study for each job as its device describes its space, and open them."""
        settings, jobs = self._settings, self._jobs(self._chosen)
        answers = self._supervisor.describe(_problems(jobs), guesses_of(settings))
        described = {provider: iter(spaces) for provider, spaces in answers.items()}
        self._plans = [self._plan(job, next(described[job.provider])) for job in jobs]
        if OURS in self._pools:
            _prefetch(self._pools[OURS], self._plans, settings)
        self._studies, self._history = retry_storage(
            lambda: open_studies(self._storage, self._plans, settings),
            is_hurried=lambda: self._interrupt.requested,
        )
        self._measured_before = sum(len(study.measured) for study in self._studies)

    def _plan(self, job: Job, described: DescribedSpace) -> StudyPlan:
        device, output_dir = self._devices[job.provider], self._settings.output_dir
        return StudyPlan(
            job,
            StudyKey(job.problem, device, described.space.fingerprint),
            described.space,
            described.prior_us,
            job.incumbents(device, output_dir, described.own_config),
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


class _Writer(RunObserver):
    """Keeps the engine files about as good as the studies are."""

    files: tuple[WrittenFile, ...] = ()
    """The files as they were written last."""

    def __init__(self, studies: Sequence[TuningStudy], output_dir: Path) -> None:
        self._studies = studies
        self._output_dir = output_dir
        self._is_old = False
        self._written_at = time.monotonic()

    def results(self) -> list[Result]:
        return [result for study in self._studies for result in study.results()]

    def write(self) -> None:
        self.files = tuple(write_files(self.results(), self._output_dir))

    def trial_told(self, study: TuningStudy, result: TrialResult) -> None:
        self._is_old = True

    def study_ended(self, study: TuningStudy) -> None:
        self._is_old = True

    def tick(self) -> None:
        """A file that cannot be written now must not end the run: the last write will tell."""
        if not self._is_old or time.monotonic() - self._written_at < _WRITE_S:
            return
        try:
            self.write()
        except EngineFileError as error:
            _log.warning("%s", error)
        self._is_old, self._written_at = False, time.monotonic()


def _problems(jobs: Iterable[Job]) -> dict[str, list[Problem]]:
    """Return the problems by their provider."""
    problems: dict[str, list[Problem]] = {}
    for job in jobs:
        problems.setdefault(job.provider, []).append(job.problem)
    return problems


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


def _check_output(folder: Path) -> None:
    """Raise EngineFileError, before hours of measuring, where nothing can be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise EngineFileError(
            f"--output-dir {folder} cannot be written: {error.strerror}. "
            "Give a folder that you may write"
        ) from error
