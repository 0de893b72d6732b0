"""``run``: from settings to finished studies and engine files."""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from optuna.trial import TrialState

from autotune.backends.compile_cache import FILE_NAME, CompileCache
from autotune.engines import WrittenFile
from autotune.errors import EngineFileError
from autotune.settings import RunSettings
from autotune.spec.device import Device
from autotune.studies.outcome import TrialResult
from autotune.studies.storage.open import open_storage
from autotune.studies.storage.retry import retry_storage
from autotune.studies.trial_record import asked_config
from autotune.tune.compile_service.client import CompileClient
from autotune.tune.compile_service.pool import (
    CompilePool,
    PoolSpent,
    compiles_ahead,
    default_jobs,
)
from autotune.tune.engine_output import Result, write_files
from autotune.tune.jobs import Job, files_dir, jobs_of, model_shape
from autotune.tune.observer import RunObserver
from autotune.tune.open_studies import open_studies, plan_study
from autotune.tune.processes.signals import Interrupt
from autotune.tune.tuning_study import StudyPlan, TuningStudy
from autotune.tune.workers.launcher import Launcher
from autotune.tune.workers.monitor import RunMonitor
from autotune.tune.workers.supervisor import WorkerSupervisor

_log = logging.getLogger(__name__)
LOCAL = Launcher()
_WRITE_S = 10.0
"""How old engine files may get while studies are searched abreast: what a run that is killed
leaves."""


@dataclass(frozen=True, slots=True)
class RunReport:
    """How a run ended."""

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
    busy: float | None = None
    """Share of the time in which the devices verified and timed; None where nothing was."""
    ahead: PoolSpent | None = None
    """What was compiled ahead of the devices; None without a compile pool."""


def run(
    settings: RunSettings, storage_url: str, *observers: RunObserver, launcher: Launcher = LOCAL
) -> RunReport:
    """Tune everything that ``settings`` names; whatever is in the storage is not done again.

    Other runs on the same storage, here or elsewhere, join the same work. Engine files are written
    every few seconds, and at the end. Raises AutotuneError for what the user can mend.
    """
    began = time.monotonic()
    shape = model_shape(settings.model)
    jobs = jobs_of(shape, settings.model, settings.engines, settings.kernel)
    level = _log.getEffectiveLevel()
    with ExitStack() as stack:
        interrupt = stack.enter_context(Interrupt())
        pool = CompilePool()
        stack.callback(pool.close)
        specs, start = stack.enter_context(launcher.specs(settings, storage_url, level, pool))
        _check_output(settings.output_dir)
        storage = open_storage(storage_url, create=True)
        stack.callback(storage.remove_session)
        supervisor = WorkerSupervisor(specs, start)
        stack.callback(supervisor.close)
        device = supervisor.ready()
        if launcher.is_local:
            _start_pool(pool, device, settings, len(specs))
        plans = _plans(supervisor, jobs, device, settings)
        studies, history = retry_storage(
            lambda: open_studies(storage, plans, settings), is_hurried=lambda: interrupt.requested
        )
        before = sum(len(study.entries) for study in studies)

        def close(kind: type[BaseException] | None, *_: object) -> None:
            for observer in observers:
                observer.close(lambda: kind is not None or interrupt.requested)

        stack.push(close)
        for observer in observers:
            observer.started(shape, device, studies, history)
        writer = _Writer(studies, files_dir(settings.output_dir, device))
        seconds = None if settings.timeout_s is None else began + settings.timeout_s
        supervisor.begin(plans, settings, None if seconds is None else seconds - time.monotonic())
        if pool.spent is not None:
            _prefetch(pool, studies)
        monitor = RunMonitor(studies, [*observers, writer])
        monitor.work(supervisor, interrupt)
        for study in studies:
            retry_storage(study.refresh)
        if not interrupt.requested:
            monitor.settle(supervisor, interrupt)
        files = writer.write()
    return RunReport(
        device=device,
        results=tuple(writer.results()),
        files=tuple(files),
        failed={u.optuna_study.study_name: _why_failed(u) for u in studies if u.best_us is None},
        measured=sum(len(study.entries) for study in studies) - before,
        interrupted=interrupt.requested,
        unfinished=sum(u.end is None and len(u.entries) < u.target for u in studies),
        seconds=time.monotonic() - began,
        busy=monitor.busy,
        ahead=pool.spent,
    )


class _Writer(RunObserver):
    """Keeps the engine files about as good as the studies are."""

    def __init__(self, studies: Sequence[TuningStudy], output_dir: Path) -> None:
        self._studies = studies
        self._output_dir = output_dir
        self._is_old = False
        self._written_at = time.monotonic()

    def results(self) -> list[Result]:
        return [result for study in self._studies for result in study.results()]

    def write(self) -> list[WrittenFile]:
        return write_files(self.results(), self._output_dir)

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


def _start_pool(pool: CompilePool, device: Device, settings: RunSettings, gpus: int) -> None:
    """Start the pool where it is of use; otherwise tell its clients that there is none."""
    jobs = default_jobs(gpus) if settings.compile_jobs is None else settings.compile_jobs
    if not compiles_ahead(device, settings.provider) or not jobs:
        pool.close()
        return
    cache = CompileCache(settings.cache_dir / FILE_NAME, device.target)
    pool.start(device.target, jobs, timeout_s=settings.compile_timeout_s, cache=cache)


def _plans(
    supervisor: WorkerSupervisor, jobs: Sequence[Job], device: Device, settings: RunSettings
) -> list[StudyPlan]:
    spaces = supervisor.describe([job.problem for job in jobs])
    return [
        plan_study(job, device, space, prior_us, settings.output_dir)
        for job, (space, prior_us) in zip(jobs, spaces, strict=True)
    ]


def _prefetch(pool: CompilePool, studies: Sequence[TuningStudy]) -> None:
    """Have compiled what every study measures first."""
    client = CompileClient[None](pool.connect())
    for study in studies:
        queued = study.optuna_study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
        configs = (config for trial in queued if (config := asked_config(trial)) is not None)
        client.prefetch(study.job.problem, [c for c in configs if c in study.space])
    client.close()


def _why_failed(study: TuningStudy) -> str:
    return study.ended or "nothing was measured yet"


def _check_output(folder: Path) -> None:
    """Find out before hours of measuring that nothing can be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise EngineFileError(
            f"--output-dir {folder} cannot be written: {error.strerror}. "
            "Give a folder that you may write"
        ) from error
