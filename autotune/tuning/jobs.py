"""Jobs that settings ask for, one per batch size and distinct problem; what users have today."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from types import MappingProxyType

from autotune.backends.gpu.providers import OURS
from autotune.backends.stand_in import measured_kernel
from autotune.engines import Engine, read_configs
from autotune.engines.folders import ESTIMATED, REPLAYED, STAND_IN
from autotune.errors import EngineFileError, UsageError
from autotune.models.load import load_shape
from autotune.models.parse import parse_shape
from autotune.models.shape import ModelShape
from autotune.settings import ModelSettings
from autotune.spec.config import AnyConfig, Config, pair_of
from autotune.spec.device import Device, DeviceKind
from autotune.spec.problem import KernelMode, Problem
from autotune.studies.pairs import completed_as_asked
from autotune.tuning.serving import problem_for, serving
from autotune.tuning.warm_start import shipped_config

logger = logging.getLogger(__name__)

_FOLDER = {DeviceKind.ESTIMATE: ESTIMATED, DeviceKind.REPLAY: REPLAYED}


class Origin(Enum):
    """The origin of a config that a user has today; what counts least comes first."""

    DEFAULT = "default"
    """The engine's own rule, without any file."""
    SHIPPED = "shipped"
    """A file that the installed engine brings."""
    FILE = "file"
    """A file of the user's in the output folder: what a run of the study wrote there is none."""
    OWN = "own"
    """What the installed engine launches by itself, as its own call says: from a file that its
    lookup finds, or by its rule. Where its kernel is measured, this stands for the first two."""


_ORDER = {origin: place for place, origin in enumerate(Origin)}
BASELINES = (Origin.OWN, Origin.DEFAULT)
"""Origins over which speed-ups are told, the first that is there."""


@dataclass(frozen=True, slots=True)
class Incumbent:
    """A config that a user has today: a winner must beat it."""

    engine: str
    origin: Origin
    config: AnyConfig

    @property
    def source(self) -> str:
        """Its name for people, and its source where it is queued as a trial."""
        return f"{self.engine} {self.origin.value}"


@dataclass(frozen=True, slots=True)
class Job:
    """A problem, and the engines that serve it in this form (fusion may differ)."""

    problem: Problem
    engines: tuple[Engine, ...]
    provider: str = OURS
    """Owner of the kernel that is measured; see ``PROVIDERS``."""

    def incumbents(
        self, device: Device, output_dir: Path, own: AnyConfig | None = None
    ) -> tuple[Incumbent, ...]:
        """Return what a user has today, as the study's space has it, in the order of origins; whose
        the output folder's entry is, ``with_users_files`` tells.
        ``own`` is what the engine launches by itself, where its kernel is measured."""
        return tuple(
            Incumbent(engine.name, origin, config)
            for origin in Origin
            for engine in self.engines
            if (config := self._present(engine, origin, device, output_dir, own)) is not None
        )

    def _present(
        self,
        engine: Engine,
        origin: Origin,
        device: Device,
        output_dir: Path,
        own: AnyConfig | None,
    ) -> AnyConfig | None:
        if origin is Origin.OWN:
            return own
        if own is not None and origin is not Origin.FILE:
            return None
        if origin is Origin.DEFAULT:
            default = engine.default_config(self.problem, device)
            return completed_as_asked(self.problem, device, default)
        if origin is Origin.SHIPPED:
            return shipped_config(engine, self.problem, device)
        return present_config(engine, self.problem, device, output_dir)


def with_users_files(
    incumbents: Sequence[Incumbent],
    stored: Mapping[str, AnyConfig],
    known: Collection[AnyConfig],
) -> tuple[Incumbent, ...]:
    """Return the incumbents of a study with the user's files alone. ``stored`` has those of earlier
    runs by engine. An entry that a run of the study had ``known`` before it came from us: all that
    is written was measured, or is another incumbent. Where an entry is ours or gone, that of before
    still counts: what users had does not change by our writing over it."""
    names = {incumbent.engine for incumbent in incumbents}
    others = [one for one in incumbents if one.origin is not Origin.FILE]
    halves = {pair_of(one.config).up for one in others}  # a fused problem reads the up file alone
    files = {name: config for name, config in stored.items() if name in names} | {
        one.engine: one.config
        for one in incumbents
        if one.origin is Origin.FILE and one.config not in known and one.config not in halves
    }
    files_first = [Incumbent(name, Origin.FILE, config) for name, config in files.items()]
    return tuple(sorted([*files_first, *others], key=lambda one: _ORDER[one.origin]))


def model_shape(settings: ModelSettings) -> ModelShape:
    """Return the shape that --model or --shape names."""
    return load_shape(settings.model) if settings.model else parse_shape(settings.shape or "")


def jobs_of(
    shape: ModelShape,
    settings: ModelSettings,
    engines: Sequence[str],
    kernel: KernelMode = KernelMode.FUSED,
    providers: Mapping[str, str] = MappingProxyType({}),
    *,
    serve: Sequence[Engine] | None = None,
) -> list[Job]:
    """Return the problems of every batch size, ascending; engines that agree, also in whose kernel
    is measured, share one. ``providers`` are names of providers by engine, ours where missing;
    ``serve`` is what ``serving`` returns, if it was called.

    Under separate kernels an engine that reads one config for both GEMMs has the fused problem.
    An engine that refuses the model has none, where another serves it; raises NotServedError where
    all refuse.
    """
    jobs = []
    serve = serving(shape, settings, engines) if serve is None else serve
    for tokens in sorted(set(settings.batch_sizes)):
        served: dict[tuple[Problem, str], list[Engine]] = {}
        for engine in serve:
            problem = problem_for(shape, settings, engine, tokens)
            if engine.has_down_file:
                problem = replace(problem, kernel=kernel)
            served.setdefault((problem, providers.get(engine.name, OURS)), []).append(engine)
        jobs += [Job(problem, tuple(group), owner) for (problem, owner), group in served.items()]
    return jobs


def jobs_of_kernel(
    shape: ModelShape, settings: ModelSettings, engines: Sequence[str], kernel: KernelMode
) -> list[Job]:
    """Return the jobs of ``jobs_of`` that have this kernel; separate ones are of engines that
    read a config for each GEMM. Raises UsageError where there is none."""
    jobs = jobs_of(shape, settings, engines, kernel)
    wanted = [job for job in jobs if job.problem.kernel is kernel]
    if not wanted:
        raise UsageError(
            f"--kernel {kernel.value} with --engine {' '.join(engines)}: "
            "it reads one config for both GEMMs. Try --engine sglang, or --kernel fused"
        )
    return wanted


def files_dir(output_dir: Path, engine: Engine, problem: Problem, device: Device) -> Path:
    """Return the folder for such files, which tells what was not measured, or on a kernel that
    says nothing of the engine's."""
    kernel = measured_kernel(engine, problem, device)
    if kernel is None:
        return output_dir / _FOLDER[device.kind]
    return output_dir if kernel.is_proven else output_dir / STAND_IN


def may_write(engine: Engine, problem: Problem, device: Device, config: AnyConfig) -> bool:
    """True where a file can say the config and the engine runs both halves as they stand."""
    pair = pair_of(config)
    if pair.up != pair.down and not engine.has_down_file:
        return False
    return all(engine.why_illegal(problem, device, half) is None for half in (pair.up, pair.down))


def present_config(
    engine: Engine, problem: Problem, device: Device, output_dir: Path
) -> AnyConfig | None:
    """Return what the output folder has for exactly this batch size, whoever wrote it."""
    return present_in(files_dir(output_dir, engine, problem, device), engine, problem, device)


def present_in(folder: Path, engine: Engine, problem: Problem, device: Device) -> AnyConfig | None:
    """Return what the folder of such files has for exactly this batch size."""
    config = _entry(engine.path(folder, problem, device), problem.tokens)
    if config is None:
        return None
    down = None
    if problem.kernel is KernelMode.SEPARATE:
        down = _entry(engine.path(folder, problem, device, down=True), problem.tokens)
    return completed_as_asked(problem, device, engine.launched(problem, config), down)


def _entry(path: Path, tokens: int) -> Config | None:
    try:
        return read_configs(path).get(tokens) if path.exists() else None
    except EngineFileError:
        return None  # the writer deals with it, and says so
