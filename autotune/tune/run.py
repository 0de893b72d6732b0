"""``run``: from settings to finished studies and engine files."""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from optuna.storages import BaseStorage

from autotune.devices import open_measurer
from autotune.engines import WrittenFile
from autotune.errors import EngineFileError
from autotune.kernels.config import AnyConfig
from autotune.kernels.device import Device
from autotune.models import ModelShape
from autotune.settings import RunSettings
from autotune.studies.history import Known
from autotune.studies.outcome import TrialResult
from autotune.studies.storage import open_storage, run_lock
from autotune.studies.store import stored_studies
from autotune.tune.across import cross
from autotune.tune.child import Child
from autotune.tune.emit import Result, results_of, write_files
from autotune.tune.interrupt import Interrupt
from autotune.tune.loop import Loop, Observer
from autotune.tune.plan import Job, Unit, files_dir, jobs_of, model_shape, open_unit
from autotune.tune.remote import RemoteMeasurer
from autotune.tune.settle import settle

_log = logging.getLogger(__name__)


class Display(Observer, Protocol):
    """An observer that also learns what is about to happen."""

    def started(
        self, shape: ModelShape, device: Device, units: Sequence[Unit], known: Sequence[Known]
    ) -> None:
        """The studies are open; measuring begins. ``known`` are all that samplers learn from."""

    def settling(self, unit: Unit) -> None:
        """The loop is over, and this study's finalists are about to be measured again."""

    def close(self) -> None:
        """Nothing more will happen."""


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


def run(settings: RunSettings, storage_url: str, display: Display) -> RunReport:
    """Tune everything that ``settings`` names; whatever is in the storage is not done again.

    Engine files are written whenever a study ends, and at the end. Raises AutotuneError for
    what the user can mend.
    """
    began = time.monotonic()
    shape = model_shape(settings.model)
    jobs = jobs_of(shape, settings.model, settings.engines, settings.kernel)
    _check_output(settings.output_dir)
    with ExitStack() as stack:
        interrupt = stack.enter_context(Interrupt())
        storage = open_storage(storage_url, create=True)
        stack.enter_context(run_lock(storage_url))
        stack.callback(storage.remove_session)
        children = [_child(stack, settings) for _ in range(settings.jobs)]
        device, units, known = _open(storage, children[0], jobs, settings)
        before = sum(len(unit.entries) for unit in units)
        stack.callback(display.close)
        display.started(shape, device, units, known)
        writer = _Writer(units, files_dir(settings.output_dir, device))
        Loop(
            units,
            children,
            [display, writer],
            interrupt,
            run_timeout_s=settings.run_timeout_s,
            stop_gain=settings.stop_gain,
            deadline=None if settings.timeout_s is None else began + settings.timeout_s,
        ).run()
        for unit in units:
            if not interrupt.requested:
                display.settling(unit)
                settle(unit, children[0], interrupt, settings.run_timeout_s)
                cross(unit, known, children[0], interrupt, settings.run_timeout_s)
        files = writer.write()
    return RunReport(
        device=device,
        results=tuple(writer.results()),
        files=tuple(files),
        failed={u.study.study_name: _why_failed(u) for u in units if u.best_us is None},
        measured=sum(len(unit.entries) for unit in units) - before,
        interrupted=interrupt.requested,
        unfinished=sum(not u.ended and len(u.entries) < u.target for u in units),
        seconds=time.monotonic() - began,
    )


class _Writer(Observer):
    """Keeps the engine files as good as the studies are."""

    def __init__(self, units: Sequence[Unit], output_dir: Path) -> None:
        self._units = units
        self._output_dir = output_dir

    def results(self) -> list[Result]:
        return [result for unit in self._units for result in _results(unit)]

    def write(self) -> list[WrittenFile]:
        return write_files(self.results(), self._output_dir)

    def trial_asked(self, unit: Unit, worker: int, config: AnyConfig) -> None:
        pass

    def trial_told(self, unit: Unit, result: TrialResult) -> None:
        pass

    def unit_ended(self, unit: Unit) -> None:
        """A file that cannot be written now must not end the run: the last write will tell."""
        try:
            self.write()
        except EngineFileError as error:
            _log.warning("%s", error)

    def tick(self) -> None:
        pass


def _child(stack: ExitStack, settings: RunSettings) -> Child:
    child = Child(partial(open_measurer, settings.device, settings.measurer_options))
    stack.callback(child.close)
    return child


def _open(
    storage: BaseStorage, child: Child, jobs: Sequence[Job], settings: RunSettings
) -> tuple[Device, list[Unit], list[Known]]:
    measurer = RemoteMeasurer(child)
    units: list[Unit] = []
    known: list[Known] = [*stored_studies(storage)]
    for job in jobs:
        units.append(open_unit(storage, measurer, job, settings, known))
    own = {unit.key.study_name for unit in units}
    known[:] = [*(study for study in known if study.key.study_name not in own), *units]
    return measurer.device, units, known


def _results(unit: Unit) -> list[Result]:
    key = unit.key
    return results_of(
        key.problem,
        key.device,
        unit.job.engines,
        entries=unit.entries,
        incumbents=unit.incumbents,
        finalists=unit.finalists,
    )


def _why_failed(unit: Unit) -> str:
    return unit.ended or "nothing was measured yet"


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
