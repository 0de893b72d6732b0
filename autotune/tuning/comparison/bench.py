"""``bench``: times of given configs, without tuning and without a storage."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from autotune.backends.estimate.margin import margin_of
from autotune.backends.gpu.providers import OURS
from autotune.backends.protocol import Measurer
from autotune.backends.selectors import open_measurer
from autotune.engines import ENGINES
from autotune.engines.entries import nearest
from autotune.errors import UsageError
from autotune.settings import RunSettings
from autotune.spec.config import AnyConfig, Config, ConfigPair, pair_of
from autotune.spec.device import Device, DeviceKind
from autotune.spec.limits import why_no_tma
from autotune.spec.problem import KernelMode, Problem
from autotune.studies.outcome import Outcome, TrialResult
from autotune.studies.pairs import completed_as_asked, together
from autotune.studies.space import why_not_searched
from autotune.tuning.comparison.config_files import FilesAtSize, FileTime, side_by_side
from autotune.tuning.comparison.variants import config_table
from autotune.tuning.compile_service.ahead import cache_of, compile_ahead, opened_pool
from autotune.tuning.compile_service.pool import CompilePool, default_jobs
from autotune.tuning.finals import MAX_ROUNDS
from autotune.tuning.jobs import Incumbent, Job, Origin, jobs_of_kernel, model_shape
from autotune.tuning.processes.child import Call, Child
from autotune.tuning.processes.dispatch import measure_in

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class BenchTime:
    """One config on one batch size, and where the config came from."""

    tokens: int
    source: str
    config: AnyConfig
    result: TrialResult


def bench(
    settings: RunSettings, configs: Sequence[Config], files: Sequence[Path]
) -> tuple[Device, list[BenchTime]]:
    """Measure ``configs`` and what ``files`` say for each batch size; where neither is given, what
    the engines launch by themselves. Raises DeviceError where the device cannot be used at all,
    UsageError where the engines' kernels are several."""
    tables = {path: config_table(path) for path in files}
    jobs = _jobs(settings)
    _say_whose_down_files(files, jobs)
    with _opened(settings) as opened:
        device, child = opened.device, opened.child
        given = [
            (job, *one) for job in jobs for one in _candidates(child, job, device, configs, tables)
        ]
        opened.compile([(job.problem, config) for job, _, config in given])
        times = [
            BenchTime(
                job.problem.tokens, source, config, _measure(child, job, config, settings, device)
            )
            for job, source, config in given
        ]
    return device, times


def bench_files(settings: RunSettings, files: Sequence[Path]) -> tuple[Device, list[FilesAtSize]]:
    """Measure what each file says for each batch size, interleaved; on an engine's kernel with
    what the engine launches by itself, as the baseline. Raises as ``bench`` does."""
    tables = {path: config_table(path) for path in files}
    jobs = _jobs(settings)
    _say_whose_down_files(files, jobs)
    with _opened(settings) as opened:
        device, child = opened.device, opened.child
        is_estimate = device.kind is DeviceKind.ESTIMATE
        rounds = MAX_ROUNDS if device.kind is DeviceKind.CUDA else 1
        baselines = _baselines(child, jobs, measured_provider(settings))
        given = {
            job.problem: [
                *baselines.get(job.problem, ()),
                *(_given(path, table, job, device) for path, table in tables.items()),
            ]
            for job in jobs
        }
        opened.compile([(problem, e.config) for problem, entries in given.items() for e in entries])
        sizes = [
            side_by_side(
                problem,
                entries,
                child,
                timeout_s=settings.run_timeout_s,
                rounds=rounds,
                margin=margin_of(problem, device.target) if is_estimate else None,
            )
            for problem, entries in given.items()
        ]
    return device, sizes


def measured_provider(settings: RunSettings) -> str:
    """Return whose kernel is measured. Raises UsageError where each engine has its own."""
    chosen = settings.providers
    if len(set(chosen.values())) > 1:
        own = next(engine for engine, provider in chosen.items() if provider != OURS)
        raise UsageError(
            f"--engine {' '.join(chosen)}: they are measured on different kernels, "
            f"{own} on its own. Name one, as --engine {own}, or measure ours: --provider {OURS}"
        )
    return next(iter(chosen.values()))


def _baselines(
    child: Child, jobs: Sequence[Job], provider: str
) -> Mapping[Problem, Sequence[FileTime]]:
    """Return what an engine launches by itself, by problem; nothing where that is no config of
    ours at some batch size, so that ratios are over one baseline."""
    if provider not in ENGINES:
        return {}
    title = ENGINES[provider].title
    found = {}
    for job in jobs:
        own = child.call(Measurer.own_config, job.problem)
        if own is None:
            _log.warning(
                "what %s launches by itself at %d tokens is no config, so it is not measured",
                title,
                job.problem.tokens,
            )
            return {}
        found[job.problem] = [FileTime(f"{title} by itself", None, own)]
    return found


def _jobs(settings: RunSettings) -> list[Job]:
    shape = model_shape(settings.model)
    return jobs_of_kernel(shape, settings.model, settings.engines, settings.kernel)


@dataclass(frozen=True, slots=True)
class _Opened:
    """A child with its device, and the pool that compiles for it, where there is one."""

    child: Child
    device: Device
    pool: CompilePool | None
    timeout_s: float

    def compile(self, configs: Sequence[tuple[Problem, AnyConfig]]) -> None:
        """Have compiled whatever can be ahead of measuring."""
        if self.pool is None:
            return
        of_problem: dict[Problem, dict[AnyConfig, None]] = {}
        for problem, config in configs:
            of_problem.setdefault(problem, {})[config] = None
        calls = (Call.of(Measurer.binaries, p, tuple(c)) for p, c in of_problem.items())
        compile_ahead(self.pool, self.child, calls, self.timeout_s)


@contextmanager
def _opened(settings: RunSettings) -> Iterator[_Opened]:
    provider = measured_provider(settings)
    jobs = default_jobs() if settings.compile_jobs is None else settings.compile_jobs
    with (
        opened_pool(settings.device, provider, jobs) as pool,
        closing(Child(partial(open_measurer, settings.device, settings.measurer_options))) as child,
    ):
        device = child.call(Measurer.device)
        if pool is not None:
            cache = cache_of(provider, settings.cache_dir, device.target)
            pool.start(device.target, jobs, timeout_s=settings.compile_timeout_s, cache=cache)
        yield _Opened(child, device, pool, settings.run_timeout_s)


def _given(path: Path, table: dict[int, Config], job: Job, device: Device) -> FileTime:
    """With what the file of the down GEMM beside it says, where the engine reads it."""
    problem, key = job.problem, nearest(table, job.problem.tokens)
    config = completed_as_asked(problem, device, table[key])
    down_path = _down_file(path)
    if down_path is not None and any(engine.has_down_file for engine in job.engines):
        down_table = config_table(down_path)
        down = down_table[nearest(down_table, problem.tokens)]
        config = together(problem, device, table[key], down)
    return FileTime(str(path), key, config)


def _down_file(path: Path) -> Path | None:
    """Return the file of the down GEMM beside an up file; None where there is none."""
    beside = path.with_name(f"{path.stem}_down.json")
    return beside if beside.is_file() else None


def _say_whose_down_files(files: Sequence[Path], jobs: Sequence[Job]) -> None:
    """Say of a down file beside each file whether it is read: whose engine reads one reads it."""
    if not jobs:
        return
    engines = {engine.title: engine for job in jobs for engine in job.engines}
    readers = [title for title, engine in engines.items() if engine.has_down_file]
    for path in (down for file in files if (down := _down_file(file)) is not None):
        if readers:
            _log.info("%s: read too, for the down GEMM, as %s does", path, " and ".join(readers))
        else:
            _log.info("%s: not read, as %s does not", path, " and ".join(engines))


def _candidates(
    child: Child,
    job: Job,
    device: Device,
    configs: Sequence[Config],
    tables: Mapping[Path, dict[int, Config]],
) -> Iterator[tuple[str, AnyConfig]]:
    """Under separate kernels a config is timed with and without TMA, on both GEMMs; so is what
    a file says, with that of the down GEMM beside it."""
    if not configs and not tables:
        own = child.call(Measurer.own_config, job.problem)
        if own is not None:
            yield Incumbent(job.engines[0].name, Origin.OWN, own).source, own
            return
    given: list[tuple[str, AnyConfig]] = [("--configs", config) for config in configs]
    told = (_given(path, table, job, device) for path, table in tables.items())
    given += [(file.source, file.config) for file in told]
    if not given:
        for engine in job.engines:
            default = engine.default_config(job.problem, device)
            given.append((Incumbent(engine.name, Origin.DEFAULT, default).source, default))
    problem = job.problem
    has_tma = problem.kernel is KernelMode.SEPARATE and why_no_tma(problem, device.target) is None
    for source, config in given:
        up, down = pair_of(config).up, pair_of(config).down
        yield source, config if up != down else completed_as_asked(problem, device, up)
        if has_tma and not (up.use_tma or down.use_tma):
            with_tma = [replace(half, use_tma=True) for half in (up, down)]
            yield f"{source}, with TMA", completed_as_asked(problem, device, *with_tma)


def _measure(
    child: Child, job: Job, config: AnyConfig, settings: RunSettings, device: Device
) -> TrialResult:
    space = child.call(Measurer.space, job.problem)
    is_pair = isinstance(config, ConfigPair) and job.problem.kernel is KernelMode.FUSED
    halves = [pair_of(config).up, pair_of(config).down] if is_pair else [config]
    slow = [
        why_not_searched(job.problem, device, half)
        for half in (pair_of(config).up, pair_of(config).down)
    ]
    reasons = filter(None, map(space.why_not, halves))
    why = next((reason for reason in reasons if reason not in slow), None)
    if why is not None and config != child.call(Measurer.own_config, job.problem):
        return TrialResult(Outcome.INFEASIBLE, reason=why)
    return measure_in(child, settings.run_timeout_s, job.problem, config)
