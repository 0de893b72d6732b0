"""``record`` measures every config of a space, or a random part of it, into one file.

Binaries first, in parallel, each once for all batch sizes; then times, batch size after batch
size. A config that takes the process with it has that as its outcome.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Protocol

import autotune
from autotune.backends.binaries import Binaries
from autotune.backends.compile_cache import BinaryCompiler
from autotune.backends.host_facts import package_version
from autotune.backends.protocol import Measurer
from autotune.backends.replay.recording_format import recorded_configs
from autotune.backends.selectors import open_measurer
from autotune.backends.stand_in import OURS, owner_of
from autotune.engines.names import checked_device
from autotune.errors import UsageError
from autotune.settings import RecordSettings
from autotune.spec.binary import BOTH, binary_key
from autotune.spec.config import AnyConfig, pair_of
from autotune.spec.device import Device, DeviceKind
from autotune.spec.measurement import CompileFailure, Measurement
from autotune.spec.problem import Problem
from autotune.studies.key import StudyKey
from autotune.studies.outcome import Outcome, TrialResult, failed_compile
from autotune.studies.pairs import completed_as_asked
from autotune.studies.search.pruning import HOPELESS, Stop
from autotune.studies.space import SearchSpace
from autotune.tuning.compile_service.ahead import binaries_in, compiled, opened_pool
from autotune.tuning.compile_service.pool import CompilePool
from autotune.tuning.jobs import Job, jobs_of_kernel, model_shape
from autotune.tuning.processes.child import Call, Child, ChildFault, Closable
from autotune.tuning.processes.dispatch import Answer, Item, Value, answers, result_of
from autotune.tuning.processes.signals import Interrupt
from autotune.tuning.recording.recording_log import RecordingLog


class RecordDisplay(Protocol):
    """A display of how far a recording is."""

    def started(self, device: Device, path: Path) -> None:
        """Hear what is recorded, and where to."""

    def phase(self, words: str, done: int, total: int) -> None:
        """A part begins, of which ``done`` was there before."""

    def step(self) -> None:
        """One more of the part's total."""

    def interrupted(self, words: str) -> None:
        """The user asked to end: see ``RunObserver.interrupted``."""

    def close(self) -> None:
        """Nothing more will happen."""


@dataclass(frozen=True, slots=True)
class RecordedStudy:
    """One problem, and the configs of its space that are to be measured, in this order."""

    key: StudyKey
    configs: tuple[AnyConfig, ...]
    space_size: int


OpenChildren = Callable[[ExitStack, int], list[Child]]
"""Makes at most so many children, which the stack closes."""
_Group = list[tuple[RecordedStudy, AnyConfig]]
"""Configs that need the same binaries."""
_ASKED_AT_ONCE = 50
"""Configs of which a child says in one call what they compile: one that ends it costs the rest."""


@dataclass(frozen=True, slots=True)
class StudyCount:
    """Counts of the results that a recording holds of one problem."""

    problem: Problem
    wanted: int
    space_size: int
    outcomes: dict[str, int]
    best: AnyConfig | None
    best_us: float | None


@dataclass(frozen=True, slots=True)
class RecordReport:
    """The end of a recording."""

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
        pool = stack.enter_context(_engine_pool(settings))
        opened = partial(open_measurer, settings.device, settings.measurer_options)
        measuring = _children(stack, opened, settings.jobs)
        device = measuring[0].call(Measurer.device)
        studies = [
            _study(job, device, measuring[0].call(Measurer.space, job.problem), settings)
            for job in jobs
        ]
        interrupt = stack.enter_context(Interrupt(display.interrupted, display.close))
        logbook = RecordingLog(settings.output or default_path(device, studies[0].key.problem))
        stack.callback(logbook.close)
        logbook.check_device(device)
        stack.callback(display.close)
        display.started(device, logbook.path)
        recorder = Recorder(
            logbook,
            display,
            interrupt,
            run_timeout_s=settings.run_timeout_s,
            give_up_at=settings.give_up_at,
        )
        before = _count(logbook, studies)
        if is_compiled_here(device):
            recorder.compile(studies, partial(_compilers, device, settings))
        elif pool is not None:
            pool.start(device.target, settings.compile_jobs, timeout_s=settings.run_timeout_s)
            recorder.compile_launches(studies, measuring[0], pool)
        if settings.timeout_s is not None:
            recorder = replace(recorder, deadline=time.monotonic() + settings.timeout_s)
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


def _engine_pool(settings: RecordSettings) -> AbstractContextManager[CompilePool | None]:
    """Start what compiles an engine's kernels; None for ours, and for recordings."""
    provider = settings.measurer_options.provider
    jobs = 0 if provider == OURS else settings.compile_jobs
    return opened_pool(settings.device, provider, jobs)


def is_compiled_here(device: Device) -> bool:
    """Return whether binaries are compiled before anything is measured: those of our kernel."""
    return device.kind is not DeviceKind.REPLAY and owner_of(device.method) == OURS


def default_path(device: Device, problem: Problem) -> Path:
    """Return a name as moe_NVIDIA_H200_E=128,N=768_bf16.npz; estimates say so. Raises
    EngineFileError for a device whose name cannot be part of one."""
    kind = "" if device.kind is DeviceKind.CUDA else f"{device.kind.value}_"
    name = checked_device(device.name).replace(" ", "_")
    kernel = "" if problem.kernel.value == "fused" else f"_{problem.kernel.value}"
    sizes = f"E={problem.experts},N={problem.intermediate}"
    return Path(f"{kind}moe_{name}_{sizes}_{problem.dtype.value}{kernel}.npz")


def _study(job: Job, device: Device, space: SearchSpace, settings: RecordSettings) -> RecordedStudy:
    """The engines' defaults, then the space in a random order, as far as ``--limit`` goes."""
    defaults = (
        completed_as_asked(job.problem, device, engine.default_config(job.problem, device))
        for engine in job.engines
    )
    among = _like(settings.like, job.problem, device, space) if settings.like else space.configs
    order = random.Random(settings.seed).sample(among, len(among))
    configs = dict.fromkeys(config for config in defaults if config in space)
    configs |= dict.fromkeys(order[: settings.limit])
    key = StudyKey(job.problem, device, space.fingerprint)
    return RecordedStudy(key, tuple(configs), len(space.configs))


def _like(path: Path, problem: Problem, device: Device, space: SearchSpace) -> Sequence[AnyConfig]:
    """Raises UsageError where the space has none of the file's configs."""
    given = recorded_configs(path)
    found = dict.fromkeys(completed_as_asked(problem, device, pair_of(c).up) for c in given)
    known = [config for config in found if config in space]
    if not known:
        raise UsageError(f"--like {path}: none of its {len(given)} configs is in the space")
    return known


def _compilers(
    device: Device, settings: RecordSettings, stack: ExitStack, groups: int
) -> list[Child]:
    make = partial(BinaryCompiler, settings.cache_dir, device.target)
    return _children(stack, make, min(settings.compile_jobs, groups))


def _children(stack: ExitStack, make: Callable[[], Closable], count: int) -> list[Child]:
    children = [Child(make) for _ in range(count)]
    for child in children:
        stack.callback(child.close)
    return children


def _count(logbook: RecordingLog, studies: Collection[RecordedStudy]) -> int:
    return sum(len(study.configs) - len(missing_of(logbook, study)) for study in studies)


def _counts(logbook: RecordingLog, study: RecordedStudy) -> StudyCount:
    results = logbook.results(study.key)
    outcomes = Counter(result.outcome.value for result in results.values())
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


@dataclass(frozen=True, slots=True)
class Recorder:
    """Runs calls on children and keeps their answers."""

    logbook: RecordingLog
    display: RecordDisplay
    interrupt: Interrupt
    run_timeout_s: float
    deadline: float | None = None
    """The monotonic clock's moment at which no more is measured."""
    give_up_at: float = HOPELESS

    def compile(self, studies: Sequence[RecordedStudy], open_children: OpenChildren) -> None:
        """Every binary that a missing result needs. One that does not come is a result of each
        config and problem that needs it."""
        groups = _binary_groups(self.logbook, studies)
        if not groups:
            return
        self.display.phase("compiling", 0, len(groups))
        calls = (
            (group, Call.of(BinaryCompiler.prepare, group[0][0].key.problem, group[0][1]))
            for group in groups
        )
        with ExitStack() as stack:
            for answer in self._answers(open_children(stack, len(groups)), calls):
                self._compiled(answer)
                self.display.step()

    def compile_launches(
        self, studies: Sequence[RecordedStudy], child: Child, pool: CompilePool
    ) -> None:
        """The same for an engine's kernels, whose binaries a measuring child names."""
        groups = self._launch_groups(studies, child)
        self.display.phase("compiling", 0, len(groups))
        for group, answer in compiled(pool, groups, self._is_over):
            if answer is not None and isinstance(answer.result, CompileFailure):
                for study, config in group:
                    self.logbook.add(study.key, config, failed_compile(answer.result))
            self.display.step()

    def _launch_groups(
        self, studies: Sequence[RecordedStudy], child: Child
    ) -> list[tuple[_Group, Binaries]]:
        """Group as ``_binary_groups`` does, by what the child says; without configs that compile
        nothing."""
        groups: dict[tuple[str, ...], tuple[_Group, Binaries]] = {}
        for study in studies:
            missing = missing_of(self.logbook, study)
            for start in range(0, len(missing), _ASKED_AT_ONCE):
                if self._is_over():
                    return []
                configs = tuple(missing[start : start + _ASKED_AT_ONCE])
                call = Call.of(Measurer.binaries, study.key.problem, configs)
                found = binaries_in(child, call, self.run_timeout_s)
                for config, binaries in zip(configs, found, strict=False):
                    keys = tuple(binary.key for binary in binaries.values())
                    groups.setdefault(keys, ([], binaries))[0].append((study, config))
        groups.pop((), None)
        return list(groups.values())

    def _compiled(self, answer: Answer[_Group, float]) -> None:
        for study, config in answer.item:
            if isinstance(answer.value, ChildFault):
                failure = result_of(answer.value, Outcome.COMPILE_TIMEOUT)
                self.logbook.add(study.key, config, failure)
            elif config not in self.logbook.compile_s:
                self.logbook.add_compile_s(config, answer.value)

    def measure(self, study: RecordedStudy, children: Sequence[Child]) -> None:
        """Every config of the study that has no result."""
        missing = missing_of(self.logbook, study)
        if not missing:
            return
        done, total = len(study.configs) - len(missing), len(study.configs)
        self.display.phase(f"{study.key.problem.tokens} tokens", done, total)
        problem, best = study.key.problem, _fastest(self.logbook.results(study.key).values())
        calls = (  # each is made with the best so far
            (config, Call.of(Measurer.measure, problem, config, stop=self._stop(best)))
            for config in missing
        )
        for answer in self._answers(children, calls):
            result = result_of(answer.value)
            self.logbook.add(study.key, answer.item, result)
            best = _fastest([result], best)
            self.display.step()

    def _answers(
        self, children: Sequence[Child], calls: Iterator[tuple[Item, Call[Value]]]
    ) -> Iterator[Answer[Item, Value]]:
        return answers(children, calls, timeout_s=self.run_timeout_s, is_over=self._is_over)

    def _stop(self, best: Measurement | None) -> Stop | None:
        """A recording stops what is hopeless beside the fastest so far, and no more."""
        if best is None:
            return None
        rows = zip(*best.columns, strict=True)
        return Stop(tuple(rows), is_paired=False, hopeless=self.give_up_at)

    def _is_over(self) -> bool:
        late = self.deadline is not None and time.monotonic() > self.deadline
        return late or self.interrupt.requested


def _fastest(results: Iterable[TrialResult], best: Measurement | None = None) -> Measurement | None:
    """Return the fastest complete measurement of ``results`` and ``best``."""
    whole = [r.measurement for r in results if r.outcome is Outcome.OK and r.measurement]
    return min([*([best] if best else []), *whole], key=lambda m: m.geomean_us, default=None)


def missing_of(logbook: RecordingLog, study: RecordedStudy) -> list[AnyConfig]:
    """The study's configs that have no result, in its order."""
    known = logbook.results(study.key)
    return [config for config in study.configs if config not in known]


def _binary_groups(logbook: RecordingLog, studies: Sequence[RecordedStudy]) -> list[_Group]:
    """Group by binaries: a compile serves every batch size and every GROUP_SIZE_M."""
    groups: dict[tuple[str, ...], _Group] = {}
    for study in studies:
        for config in missing_of(logbook, study):
            pair = pair_of(config)
            problem = study.key.problem
            keys = tuple(binary_key(problem, getattr(pair, which), which) for which in BOTH)
            groups.setdefault(keys, []).append((study, config))
    return list(groups.values())
