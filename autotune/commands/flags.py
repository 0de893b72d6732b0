"""Groups of flags that several commands share, and the objects made from them."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

from autotune.backends.gpu.providers import AUTO, TUNABLE
from autotune.backends.selectors import auto_selector
from autotune.commands.default_folders import DEFAULT_OUTPUT, user_cache
from autotune.commands.model_flags import add_model_flags, from_flags, model_settings
from autotune.commands.storage_flag import add_storage_flag
from autotune.engines import ENGINES
from autotune.errors import UsageError
from autotune.settings import ALL_GPUS, ModelSettings, RunSettings
from autotune.spec.problem import KernelMode
from autotune.studies.search.samplers import SAMPLERS
from autotune.studies.selection.select import Robust
from autotune.tuning.compile_service.pool import default_jobs

_log = logging.getLogger(__name__)


def add_device_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags that say where times come from."""
    group = parser.add_argument_group("device")
    group.add_argument(
        "--device",
        default="auto",
        help="auto, cuda, cuda:INDEX, estimate:GPU or replay:FILE; auto is cuda where there is a "
        "GPU, else estimate:NVIDIA_H200",
    )
    group.add_argument(
        "--l2", choices=("cold", "warm"), default="cold", help="L2 cache before each timed call"
    )
    group.add_argument("--cache-dir", type=Path, help="compiled facts (default: the user's cache)")


def add_search_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags that say how long and how configs are searched, and where results go."""
    group = parser.add_argument_group("search")
    group.add_argument("--trials", type=int, default=60, help="measurements per batch size (60)")
    add_time_limits(group, "seconds from the first measurement", "seconds for one trial (120)")
    add_measuring_flags(group)
    group.add_argument("--sampler", choices=sorted(SAMPLERS), default="surrogate")
    group.add_argument(
        "--stop-gain",
        type=float,
        default=0.005,
        metavar="SHARE",
        help="end a study when the surrogate expects to save less (0.005 is 0.5 %%; 0: never)",
    )
    group.add_argument(
        "--robust",
        choices=[each.value for each in Robust],
        default=Robust.MEAN.value,
        help="of several routings: take the config with the least mean loss over all of them "
        "(default), or the least loss under its worst one",
    )
    group.add_argument(
        "--warm-start",
        dest="warm_starts",
        type=Path,
        nargs="+",
        default=[],
        metavar="PATH",
        help="engine files, or folders of them, whose configs are measured early",
    )
    group.add_argument("--seed", type=int, default=0, help="of the sampler")
    group.add_argument(
        "--gpus",
        default=ALL_GPUS,
        metavar="0,1",
        help="with --device cuda: a worker for each of these (all that are visible)",
    )
    group.add_argument(
        "--workers",
        "--jobs",
        dest="jobs",
        type=int,
        help="without a GPU: workers that estimate (one per core) or replay (1)",
    )
    group = parser.add_argument_group("output")
    add_engine_flag(group)
    group.add_argument("--output-dir", type=Path, default=DEFAULT_OUTPUT)
    add_storage_flag(group)


def add_measuring_flags(group: argparse._ActionsContainer) -> None:
    """Add the flags that say whose kernel is measured, and what compiles for it."""
    add_kernel_flag(group, "one config for both GEMMs, or one for each where the engine reads two")
    group.add_argument(
        "--provider",
        choices=(AUTO, *TUNABLE),
        default=AUTO,
        help="whose kernel is measured: each engine's own where it is installed, else ours (auto); "
        "ours; or one engine's own, for its files alone",
    )
    group.add_argument(
        "--compile-jobs",
        type=int,
        metavar="N",
        help="with --device cuda: processes that compile ahead (cores less GPUs; 0: none)",
    )
    group.add_argument(
        "--compile-timeout",
        dest="compile_timeout_s",
        type=float,
        default=60.0,
        metavar="S",
        help="for one compile (60)",
    )


def add_kernel_flag(parser: argparse._ActionsContainer, words: str) -> None:
    """Add ``--kernel`` with its help."""
    parser.add_argument(
        "--kernel",
        choices=[kernel.value for kernel in KernelMode],
        default=KernelMode.FUSED.value,
        help=words,
    )


def add_engine_flag(parser: argparse._ActionsContainer, words: str | None = None) -> None:
    """Add ``--engine`` with its help."""
    parser.add_argument("--engine", choices=(*ENGINES, "both"), default="both", help=words)


def add_time_limits(parser: argparse._ActionsContainer, all_words: str, one_words: str) -> None:
    """Add ``--timeout`` and ``--run-timeout`` with their help."""
    parser.add_argument("--timeout", dest="timeout_s", type=float, metavar="S", help=all_words)
    add_run_timeout(parser, one_words)


def add_run_timeout(parser: argparse._ActionsContainer, words: str) -> None:
    """Add ``--run-timeout`` with its help."""
    parser.add_argument(
        "--run-timeout",
        dest="run_timeout_s",
        type=float,
        default=120.0,
        metavar="S",
        help=words,
    )


def add_tuning_flags(parser: argparse.ArgumentParser, *, several: bool = False) -> None:
    """Add the flags of ``run``, which takes ``several`` models."""
    add_model_flags(parser, several=several)
    add_device_flags(parser)
    add_search_flags(parser)


def add_launcher_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags that say where workers are."""
    group = parser.add_argument_group("launcher")
    group.add_argument(
        "--launcher",
        choices=("local", "ray"),
        default="local",
        help="ray: each worker has a GPU, or a core, of a Ray cluster (local)",
    )
    group.add_argument(
        "--ray-address", default="auto", metavar="ADDRESS", help="(auto: this machine's cluster)"
    )


def device_selector(flags: argparse.Namespace) -> str:
    """Return the selector with auto resolved; the log says where no GPU was found."""
    if flags.device != "auto":
        return str(flags.device)
    selector = auto_selector()
    if selector != "cuda":
        _log.info("no GPU found on this machine: going on with --device %s", selector)
    return selector


def cache_dir(flags: argparse.Namespace) -> Path:
    """Return --cache-dir, else the user's cache folder."""
    return user_cache() if flags.cache_dir is None else Path(flags.cache_dir).absolute()


def run_settings(
    flags: argparse.Namespace, models: Sequence[ModelSettings] | None = None
) -> RunSettings:
    """Make the settings of a run, with ``models`` for the one that the flags name. Raises
    UsageError for values that cannot work."""
    device = device_selector(flags)
    if flags.jobs is not None and device.startswith("cuda"):
        raise UsageError(
            f"--workers {flags.jobs} with --device {device}: two workers on one GPU would disturb "
            "each other's times, so each GPU has one. Choose GPUs with --gpus 0,1"
        )
    model, *more = models or [model_settings(flags)]
    return from_flags(
        RunSettings,
        flags,
        model=model,
        more_models=more,
        device=device,
        engines=written_engines(flags),
        output_dir=flags.output_dir.absolute(),
        warm_starts=_warm_starts(flags.warm_starts),
        cache_dir=cache_dir(flags),
        jobs=flags.jobs if flags.jobs is not None else jobs_on(device),
        gpus=flags.gpus.replace(" ", ""),
    )


def engine_names(flags: argparse.Namespace) -> tuple[str, ...]:
    """Return the names that ``--engine`` stands for."""
    return tuple(ENGINES) if flags.engine == "both" else (flags.engine,)


def written_engines(flags: argparse.Namespace) -> tuple[str, ...]:
    """Return the engines whose files are written: an engine's own kernel is for its own alone."""
    if flags.engine == "both" and flags.provider in ENGINES:
        return (flags.provider,)
    return engine_names(flags)


def _warm_starts(paths: list[Path]) -> tuple[Path, ...]:
    for path in paths:
        if not path.exists():
            raise UsageError(f"--warm-start {path}: there is no such file or folder")
    return tuple(path.absolute() for path in paths)


def jobs_on(device: str) -> int:
    """Return how many processes measure: estimates are compiles, one per core; a GPU must not be
    shared, a recording needs no help."""
    return default_jobs() if device.startswith("estimate") else 1
