"""Groups of flags that several commands share, and the objects made from them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer

from autotune.api.asked import run_asked
from autotune.api.defaults import DEFAULT_OUTPUT
from autotune.backends.gpu.providers import AUTO, TUNABLE
from autotune.commands.flag_kinds import Beside, Many, OneOf, existing_beside, paths
from autotune.commands.several_models import SeveralModelsFlags, models_of
from autotune.commands.storage_flag import StorageFlag
from autotune.engines import ENGINES
from autotune.settings import ALL_GPUS, RunSettings
from autotune.spec.problem import KernelMode
from autotune.studies.search.samplers import SAMPLERS
from autotune.studies.selection.select import Robust

_BOTH = "both"

Kernel = Annotated[
    KernelMode,
    typer.Option(
        "--kernel",
        help="one config for both GEMMs, or one for each where the engine reads two",
    ),
]
RunTimeout = Annotated[
    float, typer.Option("--run-timeout", metavar="S", help="seconds for one config, or one line")
]
Timeout = Annotated[
    float | None,
    typer.Option("--timeout", metavar="S", help="seconds from the first trial"),
]
Seed = Annotated[int, typer.Option("--seed", help="of all that is random")]


@dataclass(frozen=True, kw_only=True)
class CacheFlag:
    """``--cache-dir``."""

    panel = "Device"

    cache_dir: Annotated[
        Path | None,
        typer.Option("--cache-dir", show_default="the user's cache", help="compiled facts"),
    ] = None


@dataclass(frozen=True, kw_only=True)
class TimingFlags(CacheFlag):
    """How a kernel is timed."""

    panel = "Device"

    l2: Annotated[
        Literal["cold", "warm"], typer.Option("--l2", help="L2 cache before each timed call")
    ] = "cold"


def _known_devices() -> list[str]:
    from autotune.backends.hardware import known_specs

    estimates = (f"estimate:{spec.name.replace(' ', '_')}" for spec in known_specs())
    return ["auto", "cuda", *estimates, "replay:"]


@dataclass(frozen=True, kw_only=True)
class DeviceFlags(TimingFlags):
    """The flags that say where times come from."""

    panel = "Device"

    device: Annotated[
        str,
        typer.Option(
            "--device",
            help="auto, cuda, cuda:INDEX, estimate:GPU or replay:FILE; auto is cuda where there is "
            "a GPU, else estimate:NVIDIA_H200",
            autocompletion=_known_devices,
        ),
        Beside(existing_beside),
    ] = "auto"


@dataclass(frozen=True, kw_only=True)
class EngineFlag:
    """``--engine``."""

    panel = "Output"

    engine: Annotated[
        tuple[str, ...],
        typer.Option("--engine", help="whose files are meant"),
        OneOf((*ENGINES, _BOTH)),
        Many(),
    ] = (_BOTH,)


@dataclass(frozen=True, kw_only=True)
class MeasuringFlags:
    """The flags that say whose kernel is measured, and what compiles for it."""

    panel = "Measuring"

    kernel: Kernel = KernelMode.FUSED
    provider: Annotated[
        str,
        typer.Option(
            "--provider",
            help="whose kernel is measured: each engine's own where it is installed, else ours "
            "(auto); ours; or one engine's own, for its files alone",
        ),
        OneOf((AUTO, *TUNABLE)),
    ] = AUTO
    run_timeout_s: RunTimeout = 120.0
    compile_jobs: Annotated[
        int | None,
        typer.Option(
            "--compile-jobs",
            show_default="cores less GPUs",
            help="with --device cuda: processes that compile ahead; 0: none",
        ),
    ] = None
    compile_timeout_s: Annotated[
        float, typer.Option("--compile-timeout", metavar="S", help="seconds for one compile")
    ] = 60.0
    seed: Seed = 0


@dataclass(frozen=True, kw_only=True)
class SearchFlags:
    """The flags that say how long and how configs are searched."""

    panel = "Search"

    trials: Annotated[int, typer.Option("--trials", help="trials per batch size")] = 60
    timeout_s: Timeout = None
    sampler: Annotated[
        str, typer.Option("--sampler", help="what chooses configs"), OneOf(tuple(sorted(SAMPLERS)))
    ] = "surrogate"
    stop_gain: Annotated[
        float,
        typer.Option(
            "--stop-gain",
            metavar="SHARE",
            help="end a study when the surrogate expects to save less (0.005 is 0.5 %; 0: never)",
        ),
    ] = 0.005
    robust: Annotated[
        Robust,
        typer.Option(
            "--robust",
            help="of several routings: take the config with the least mean loss over all of them, "
            "or the least loss under its worst one",
        ),
    ] = Robust.MEAN
    warm_starts: Annotated[
        tuple[Path, ...],
        typer.Option(
            "--warm-start",
            help="engine files, or folders of them, whose configs are measured early",
        ),
        Many(paths),
    ] = ()
    gpus: Annotated[
        tuple[str, ...],
        typer.Option(
            "--gpus",
            metavar="INDEX",
            help="with --device cuda: a worker for each of these, or for all that are visible",
        ),
        Many(),
    ] = (ALL_GPUS,)
    jobs: Annotated[
        int | None,
        typer.Option(
            "--workers",
            "--jobs",
            show_default="one per core; 1 to replay",
            help="without a GPU: workers that estimate or replay",
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class FilesFlags(EngineFlag):
    """Whose files are written, and the folder."""

    panel = "Output"

    output_dir: Annotated[Path, typer.Option("--output-dir", help="folder of the engine files")] = (
        DEFAULT_OUTPUT
    )


@dataclass(frozen=True, kw_only=True)
class TuningFlags(
    SeveralModelsFlags, DeviceFlags, SearchFlags, MeasuringFlags, FilesFlags, StorageFlag
):
    """The flags that a run's settings are made from."""


@dataclass(frozen=True, kw_only=True)
class LauncherFlags:
    """The flags that say where workers are."""

    panel = "Launcher"

    launcher: Annotated[
        Literal["local", "ray"],
        typer.Option("--launcher", help="ray: each worker has a GPU, or a core, of a Ray cluster"),
    ] = "local"
    ray_address: Annotated[
        str,
        typer.Option("--ray-address", metavar="ADDRESS", help="auto: the cluster of this machine"),
    ] = "auto"


@dataclass(frozen=True, kw_only=True)
class RunningFlags(StorageFlag, LauncherFlags):
    """The flags that say where a run's studies and workers are."""


def run_settings(flags: TuningFlags) -> RunSettings:
    """Make the settings of a run. Raises UsageError for values that cannot work."""
    asked = vars(flags) | {"engines": engine_names(flags), "gpus": ",".join(flags.gpus)}
    return run_asked(models_of(flags), asked)


def engine_names(flags: EngineFlag) -> tuple[str, ...]:
    """Return the names that ``--engine`` stands for."""
    return tuple(name for name in ENGINES if _BOTH in flags.engine or name in flags.engine)
