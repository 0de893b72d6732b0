"""From settings to units of work: one study per batch size and distinct problem."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from optuna.storages import BaseStorage
from optuna.study import Study
from optuna.trial import FrozenTrial

from autotune.devices.measurer import Measurer
from autotune.engines import ENGINES, Engine, read_configs
from autotune.errors import EngineFileError, UsageError
from autotune.kernels.config import Config
from autotune.kernels.device import Device, DeviceKind
from autotune.kernels.problem import Dtype, Problem
from autotune.models import ModelShape, Parallelism, load_shape, parse_shape, problem_of
from autotune.settings import ModelSettings, RunSettings
from autotune.studies.key import StudyKey
from autotune.studies.objective import enqueue, fail_stale
from autotune.studies.record import Measured, measured
from autotune.studies.samplers import SAMPLERS
from autotune.studies.space import Space
from autotune.studies.store import open_study

_FOLDER = {DeviceKind.ESTIMATE: "estimated", DeviceKind.REPLAY: "replayed"}
_PRIOR_SHARE = 4
"""One in so many of a study's measurements starts from the static model's favourites."""


@dataclass(frozen=True, slots=True)
class Job:
    """A problem, and the engines that serve it in this form (fusion may differ)."""

    problem: Problem
    engines: tuple[Engine, ...]

    def incumbents(self, device: Device, output_dir: Path) -> dict[str, Config]:
        """What a user has today: source in words → config, each engine's default first."""
        found = {
            f"{engine.name} default": engine.default_config(self.problem, device)
            for engine in self.engines
        }
        for engine in self.engines:
            present = present_config(engine, self.problem, device, output_dir)
            if present is not None:
                found[f"{engine.name} file"] = present
        return found


@dataclass(slots=True)
class Unit:
    """A study in work: the live handle of one batch size."""

    job: Job
    key: StudyKey
    space: Space
    study: Study
    incumbents: dict[str, Config]
    """Source in words → what a user has today."""
    target: int
    entries: list[Measured]
    """What was measured so far, kept up by ``note``."""
    in_flight: int = 0
    failures_in_a_row: int = 0
    ended: str = ""
    """Why no more is asked, where the target was not reached."""

    def note(self, trial: FrozenTrial) -> None:
        """Take in a trial that was just told."""
        brought = measured([trial])
        self.entries += brought
        self.failures_in_a_row = 0 if brought else self.failures_in_a_row + 1

    @property
    def default_us(self) -> float | None:
        """The fastest default of the engines; None until one is measured."""
        defaults = {c for name, c in self.incumbents.items() if name.endswith("default")}
        times = (m.median_us for m in self.entries if m.complete and m.config in defaults)
        return min(times, default=None)

    @property
    def best_us(self) -> float | None:
        return min((m.median_us for m in self.entries if m.complete), default=None)


def model_shape(settings: ModelSettings) -> ModelShape:
    """The shape that --model or --shape names."""
    return load_shape(settings.model) if settings.model else parse_shape(settings.shape or "")


def jobs_of(shape: ModelShape, settings: ModelSettings, engines: Sequence[str]) -> list[Job]:
    """The problems of every batch size, ascending; engines that agree share one."""
    jobs = []
    for tokens in sorted(set(settings.batch_sizes)):
        served: dict[Problem, list[Engine]] = {}
        for name in engines:
            problem = _problem(shape, settings, ENGINES[name], tokens)
            served.setdefault(problem, []).append(ENGINES[name])
        jobs += [Job(problem, tuple(group)) for problem, group in served.items()]
    return jobs


def files_dir(output_dir: Path, device: Device) -> Path:
    """Where files of this kind of device go: what was not measured says so in its folder."""
    folder = _FOLDER.get(device.kind)
    return output_dir / folder if folder else output_dir


def present_config(
    engine: Engine, problem: Problem, device: Device, output_dir: Path
) -> Config | None:
    """What an earlier run left in the output folder for exactly this batch size."""
    path = engine.path(files_dir(output_dir, device), problem, device)
    try:
        config = read_configs(path).get(problem.tokens) if path.exists() else None
    except EngineFileError:
        return None  # the writer deals with it, and says so
    return engine.launched(problem, config) if config else None


def open_unit(storage: BaseStorage, measurer: Measurer, job: Job, settings: RunSettings) -> Unit:
    """Open the study, clear what a dead run left, and queue its warm starts."""
    device, space = measurer.device, measurer.space(job.problem)
    key = StudyKey(job.problem, device, space.fingerprint)
    sampler = SAMPLERS[settings.sampler](space, settings.seed + job.problem.tokens)
    study = open_study(storage, key, sampler, _attributes(job, settings))
    incumbents = job.incumbents(device, settings.output_dir)
    interrupted = [(config, "interrupted") for config in fail_stale(study, space)]
    entries = measured(study.get_trials(deepcopy=False))
    unit = Unit(job, key, space, study, incumbents, settings.trials, entries)
    if len(entries) < unit.target:
        starts = [(config, source) for source, config in incumbents.items()]
        favourites = _favourites(measurer, job.problem, space, settings.trials // _PRIOR_SHARE)
        enqueue(study, space, [*starts, *interrupted, *favourites])
    return unit


def _favourites(
    measurer: Measurer, problem: Problem, space: Space, count: int
) -> Iterator[tuple[Config, str]]:
    prior = measurer.prior_us(problem, space.configs)
    if prior is None:
        return
    ranked = sorted(zip(prior, space.configs, strict=True), key=lambda pair: pair[0])
    for _, config in ranked[:count]:
        yield config, "static model"


def _problem(shape: ModelShape, settings: ModelSettings, engine: Engine, tokens: int) -> Problem:
    return problem_of(
        shape,
        Parallelism(settings.tp_size, settings.ep_size, settings.ep_rank),
        dtype_of(settings.dtype),
        per_channel_quant=settings.per_channel_quant,
        fuse_shared_experts=engine.fuses_shared_experts
        and not settings.disable_shared_experts_fusion,
        tokens=tokens,
        routing="uniform",
    )


def dtype_of(name: str) -> Dtype | None:
    """None for auto. Raises UsageError for an unknown name."""
    if name == "auto":
        return None
    try:
        return Dtype(name)
    except ValueError as error:
        allowed = ", ".join(["auto", *(dtype.value for dtype in Dtype)])
        raise UsageError(f"--dtype {name!r} is unknown; allowed are {allowed}") from error


def _attributes(job: Job, settings: RunSettings) -> dict[str, object]:
    return {
        "model": settings.model.model or settings.model.shape,
        "engines": [engine.name for engine in job.engines],
        "target_trials": settings.trials,
        "settings": settings.as_json(),
        "finished": "",
    }
