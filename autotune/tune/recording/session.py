"""``record``: every config of a space, or a random part of it, into one file.

Binaries first, in parallel, each once for all batch sizes; then times, batch size after batch
size. A config that takes the process with it has that as its outcome.
"""

from __future__ import annotations

import random
import time
from collections.abc import Collection, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import autotune
from autotune.backends.binary_compiler import BinaryCompiler
from autotune.backends.protocol import Measurer
from autotune.backends.replay.recording_format import recorded_configs
from autotune.backends.selectors import open_measurer
from autotune.backends.versions import package_version
from autotune.errors import UsageError
from autotune.settings import RecordSettings
from autotune.spec.config import AnyConfig, pair_of
from autotune.spec.device import Device, DeviceKind
from autotune.spec.problem import Problem
from autotune.studies.key import StudyKey
from autotune.studies.outcome import Outcome
from autotune.studies.pairs import completed_as_asked
from autotune.studies.space import SearchSpace
from autotune.tune.jobs import Job, jobs_of_kernel, model_shape
from autotune.tune.processes.child import Child
from autotune.tune.processes.remote_measurer import RemoteMeasurer
from autotune.tune.processes.signals import Interrupt
from autotune.tune.recording.recorder import RecordDisplay, Recorder, Study, missing_of
from autotune.tune.recording.recording_log import RecordingLog

_COMPILED = (DeviceKind.CUDA, DeviceKind.ESTIMATE)


@dataclass(frozen=True, slots=True)
class StudyCount:
    """What a recording holds of one problem."""

    problem: Problem
    wanted: int
    space_size: int
    outcomes: dict[str, int]
    best: AnyConfig | None
    best_us: float | None


@dataclass(frozen=True, slots=True)
class RecordReport:
    """How a recording ended."""

    device: Device
    path: Path
    studies: tuple[StudyCount, ...]
    measured: int
    """New in this call."""
    missing: int
    interrupted: bool
    seconds: float


def record(settings: RecordSettings, display: RecordDisplay) -> RecordReport:
    """Measure whatever ``settings`` names and the file does not hold yet.

    Raises AutotuneError for what the user can mend.
    """
    began = time.monotonic()
    shape = model_shape(settings.model)
    jobs = jobs_of_kernel(shape, settings.model, settings.engines, settings.kernel)
    with ExitStack() as stack:
        interrupt = stack.enter_context(Interrupt())
        measuring = _children(stack, _measurer(settings), settings.jobs)
        measurer = RemoteMeasurer(measuring[0])
        device = measurer.device
        studies = [_study(measurer, job, settings) for job in jobs]
        logbook = RecordingLog(settings.output or default_path(device, studies[0].key.problem))
        stack.callback(logbook.close)
        logbook.check_device(device)
        stack.callback(display.close)
        display.started(device, logbook.path)
        deadline = None if settings.timeout_s is None else began + settings.timeout_s
        recorder = Recorder(
            logbook,
            display,
            interrupt,
            run_timeout_s=settings.run_timeout_s,
            deadline=deadline,
            give_up_at=settings.give_up_at,
        )
        before = _count(logbook, studies)
        if device.kind in _COMPILED:
            recorder.compile(studies, partial(_compilers, device, settings))
        for study in studies:
            recorder.measure(study, measuring)
            logbook.save(_versions(), is_whole=False)
        missing = sum(len(missing_of(logbook, study)) for study in studies)
        logbook.save(_versions(), is_whole=not missing)
        return RecordReport(
            device=device,
            path=logbook.path,
            studies=tuple(_counts(logbook, study) for study in studies),
            measured=_count(logbook, studies) - before,
            missing=missing,
            interrupted=interrupt.requested,
            seconds=time.monotonic() - began,
        )


def default_path(device: Device, problem: Problem) -> Path:
    """As moe_NVIDIA_H200_E=128,N=768_bf16.npz; estimates say so."""
    kind = "" if device.kind is DeviceKind.CUDA else f"{device.kind.value}_"
    name = device.name.replace(" ", "_")
    kernel = "" if problem.kernel.value == "fused" else f"_{problem.kernel.value}"
    sizes = f"E={problem.experts},N={problem.intermediate}"
    return Path(f"{kind}moe_{name}_{sizes}_{problem.dtype.value}{kernel}.npz")


def _study(measurer: Measurer, job: Job, settings: RecordSettings) -> Study:
    """The engines' defaults, then the space in a random order, as far as ``--limit`` goes."""
    space: SearchSpace = measurer.space(job.problem)
    device = measurer.device
    defaults = (
        completed_as_asked(job.problem, device, engine.default_config(job.problem, device))
        for engine in job.engines
    )
    among = _like(settings.like, job.problem, measurer) if settings.like else space.configs
    order = random.Random(settings.seed).sample(among, len(among))
    configs = dict.fromkeys(config for config in defaults if config in space)
    configs |= dict.fromkeys(order[: settings.limit])
    key = StudyKey(job.problem, device, space.fingerprint)
    return Study(key, tuple(configs), len(space.configs))


def _like(path: Path, problem: Problem, measurer: Measurer) -> Sequence[AnyConfig]:
    """Raises UsageError where the space has none of the file's configs."""
    space, device = measurer.space(problem), measurer.device
    given = recorded_configs(path)
    found = dict.fromkeys(completed_as_asked(problem, device, pair_of(c).up) for c in given)
    known = [config for config in found if config in space]
    if not known:
        raise UsageError(f"--like {path}: none of its {len(given)} configs is in the space")
    return known


def _measurer(settings: RecordSettings) -> Any:
    return partial(open_measurer, settings.device, settings.measurer_options)


def _compilers(
    device: Device, settings: RecordSettings, stack: ExitStack, groups: int
) -> list[Child]:
    make = partial(BinaryCompiler, settings.cache_dir, device.target)
    return _children(stack, make, min(settings.compile_jobs, groups))


def _children(stack: ExitStack, make: Any, count: int) -> list[Child]:
    children = [Child(make) for _ in range(count)]
    for child in children:
        stack.callback(child.close)
    return children


def _count(logbook: RecordingLog, studies: Collection[Study]) -> int:
    return sum(len(study.configs) - len(missing_of(logbook, study)) for study in studies)


def _counts(logbook: RecordingLog, study: Study) -> StudyCount:
    results = logbook.results(study.key)
    outcomes: dict[str, int] = {}
    for result in results.values():
        outcomes[result.outcome.value] = outcomes.get(result.outcome.value, 0) + 1
    whole = {c: r.measurement for c, r in results.items() if r.outcome is Outcome.OK}
    means = {config: m.geomean_us for config, m in whole.items() if m is not None}
    best = min(means, key=means.__getitem__, default=None)
    return StudyCount(
        problem=study.key.problem,
        wanted=len(study.configs),
        space_size=study.space_size,
        outcomes=dict(sorted(outcomes.items())),
        best=best,
        best_us=None if best is None else means[best],
    )


def _versions() -> dict[str, str]:
    names = ("triton", "torch", "numpy")
    return {"autotune": autotune.__version__} | {name: package_version(name) for name in names}
