"""Groups of flags that several commands share, and the objects made from them."""

from __future__ import annotations

import argparse
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_type_hints

from autotune.backends.gpu.providers import AUTO, TUNABLE
from autotune.backends.selectors import auto_selector
from autotune.commands.batch_sizes import named_sizes, size
from autotune.commands.storage_flag import add_storage_flag
from autotune.engines import DEFAULT_TOKENS, ENGINES
from autotune.engines.own_code.asking import NOBODY
from autotune.errors import UsageError
from autotune.routing.distributions import canonical
from autotune.routing.trace import RECORDED, make_known
from autotune.routing.trace_files import read_trace
from autotune.settings import ALL_GPUS, ModelSettings, RunSettings, Settings, settings_from
from autotune.spec.problem import Dtype, KernelMode
from autotune.spec.ranges import RANKS
from autotune.studies.search.samplers import SAMPLERS
from autotune.studies.selection.select import Robust
from autotune.tune.compile_service.pool import default_jobs

_log = logging.getLogger(__name__)
DEFAULT_OUTPUT = Path("configs")
"""Folder of engine files where nobody says one: in the current folder."""


def add_model_flags(
    parser: argparse.ArgumentParser,
    sizes_help: str = "default: the engines' 18, from 1 to 4096",
    *,
    several: bool = False,
) -> None:
    """Add the flags that name a layer: those of the engines' scripts, with their defaults. With
    ``several``, ``--model`` takes more than one, each with its own (``several_models``)."""
    group = parser.add_argument_group("model")
    words = "catalogue name, Hugging Face name, folder or config.json (see 'models')"
    if several:
        words += "; several are tuned side by side, NAME:tp-size=8 one with flags of its own"
        group.add_argument(
            "--model", nargs="+", action="extend", metavar="NAME[:FLAG=VALUE,…]", help=words
        )
    else:
        group.add_argument("--model", help=words)
    group.add_argument(
        "--shape",
        help="instead of --model: E=8,topk=2,hidden=4096,intermediate=14336, and gated=false where "
        "experts have no gate",
    )
    add_split_flags(group)
    _add_input_flags(group, sizes_help)


def add_split_flags(group: argparse._ActionsContainer) -> None:
    """Add the flags that say how a model is split, and in which dtype."""
    group.add_argument(
        "--tp-size",
        "--tp",
        "--tensor-parallel-size",
        type=int,
        default=1,
        help="ranks of a layer, as in SGLang; 1 beside a larger --ep-size means as many as that",
    )
    group.add_argument(
        "--ep-size",
        "--ep",
        type=int,
        help="parts into which experts are split (1); --tp-size / --ep-size ranks share each",
    )
    group.add_argument(
        "--enable-expert-parallel",
        action="store_true",
        help="as in vLLM: --ep-size is --tp-size times --data-parallel-size",
    )
    group.add_argument(
        "--data-parallel-size",
        type=int,
        default=1,
        help="as in vLLM, where a layer has as many times --tp-size ranks (1)",
    )
    group.add_argument(
        "--ep-num-redundant-experts",
        type=int,
        default=0,
        metavar="N",
        help="as in SGLang, num_redundant_experts of vLLM's --eplb-config (0)",
    )
    group.add_argument("--ep-rank", type=int, help="whose experts are tuned (the most loaded rank)")
    group.add_argument(
        "--dtype",
        default="auto",
        metavar="DTYPE",
        help=f"auto (what the model's config says), {', '.join(d.value for d in Dtype)}",
    )
    group.add_argument("--per-channel-quant", action="store_true")
    group.add_argument("--disable-shared-experts-fusion", action="store_true")


def _add_input_flags(group: argparse._ActionsContainer, sizes_help: str) -> None:
    """Add the flags that say what enters a layer, and whose code is asked for file names."""
    group.add_argument(
        "--batch-size",
        dest="batch_sizes",
        type=size,
        nargs="+",
        default=list(DEFAULT_TOKENS),
        metavar="N",
        help=f"{sizes_help}; auto:FILE: those of a server's log or steps.csv, 18 at most "
        "(auto=N:FILE: N)",
    )
    group.add_argument(
        "--routing",
        metavar="R[,R…]",
        help="uniform (default), zipf:A, dirichlet:C, balanced, worst, grouped[:G:T], recorded; "
        "several: the config with the best mean over all",
    )
    group.add_argument(
        "--engine-source",
        dest="engine_sources",
        type=Path,
        nargs="+",
        default=[],
        metavar="PATH",
        help="engines' wheels, or folders of them, whose own code is asked what they call their "
        "files (default: the installed engines'; none: nobody is asked)",
    )
    group.add_argument(
        "--topk-ids-dir", type=Path, metavar="D", help="the recording (see capture-routing)"
    )


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
    add_kernel_flag(group, "one config for both GEMMs, or one for each where the engine reads two")
    group.add_argument(
        "--provider",
        choices=(AUTO, *TUNABLE),
        default=AUTO,
        help="whose kernel is measured: each engine's own where it is installed, else ours (auto); "
        "ours; or one engine's own, for its files alone",
    )
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
    group = parser.add_argument_group("output")
    add_engine_flag(group)
    group.add_argument("--output-dir", type=Path, default=DEFAULT_OUTPUT)
    add_storage_flag(group)


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
    parser.add_argument(
        "--run-timeout",
        dest="run_timeout_s",
        type=float,
        default=120.0,
        metavar="S",
        help=one_words,
    )


def add_tuning_flags(parser: argparse.ArgumentParser, *, several: bool = False) -> None:
    """Add the flags that ``run``, which takes ``several`` models, and ``bench`` share."""
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


def from_flags(kind: type[Settings], flags: argparse.Namespace, **found: Any) -> Settings:
    """Make settings of a class: a field is what was ``found`` for it, else the flag of its name,
    else its default. Raises UsageError for values that cannot work."""
    names = get_type_hints(kind)
    given = {name: value for name, value in vars(flags).items() if name in names}
    return settings_from(kind, given | found)


def model_settings(flags: argparse.Namespace) -> ModelSettings:
    """Make the settings of the layer. Raises UsageError for values that cannot work."""
    folder = flags.topk_ids_dir
    tp_size, ep_size = _ranks(flags)
    return from_flags(
        ModelSettings,
        flags,
        tp_size=tp_size,
        ep_size=ep_size,
        routing=named_routing(flags.routing, folder),
        topk_ids_dir=str(folder.absolute()) if folder else None,
        engine_sources=[p if str(p) == NOBODY else p.absolute() for p in flags.engine_sources],
        **named_sizes(flags.batch_sizes),
    )


def _ranks(flags: argparse.Namespace) -> tuple[int, int]:
    """Return the TP and EP sizes as SGLang counts them, all ranks being TP ranks."""
    RANKS.check("--data-parallel-size", flags.data_parallel_size)
    tp_size = flags.tp_size * flags.data_parallel_size
    if flags.enable_expert_parallel and flags.ep_size not in (None, tp_size):
        raise UsageError(
            f"--enable-expert-parallel is --ep-size {tp_size} here, not {flags.ep_size}. "
            "Give one of the two"
        )
    ep_size = tp_size if flags.enable_expert_parallel else flags.ep_size
    return tp_size, 1 if ep_size is None else ep_size


def named_routing(routing: str | None, folder: Path | None) -> str:
    """Return the routing that both flags mean, with the recording's digest in place of
    ``recorded``. The recording is made known.

    Raises UsageError where only one of the two flags speaks of a recording, or each of another.
    """
    given = routing or (RECORDED if folder else "uniform")
    names = [canonical(name.strip()) for name in given.split(",")]
    of_recordings = [name for name in names if name.startswith(RECORDED)]
    if bool(of_recordings) != (folder is not None):
        raise UsageError(
            f"--routing {routing} needs --topk-ids-dir with the folder of the recording"
            if folder is None
            else f"--topk-ids-dir {folder} is not used by --routing {routing}. "
            f"Try --routing {routing},{RECORDED}"
        )
    if folder is not None:
        recording = read_trace(folder)
        make_known(recording)
        other = set(of_recordings) - {RECORDED, recording.routing}
        if other:
            raise UsageError(
                f"--topk-ids-dir {folder} holds {recording.routing}, not {', '.join(other)}. "
                "Give the folder of that recording, or --routing recorded"
            )
        names = [recording.routing if name == RECORDED else name for name in names]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise UsageError(f"--routing {routing}: {', '.join(repeated)} is there twice")
    return ",".join(names)


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


def user_cache() -> Path:
    """Return the user's cache folder of ours."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "autotune"


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
        engines=_engines(flags),
        output_dir=flags.output_dir.absolute(),
        warm_starts=_warm_starts(flags.warm_starts),
        cache_dir=cache_dir(flags),
        jobs=flags.jobs if flags.jobs is not None else jobs_on(device),
        gpus=flags.gpus.replace(" ", ""),
    )


def engine_names(flags: argparse.Namespace) -> tuple[str, ...]:
    """Return the names that ``--engine`` stands for."""
    return tuple(ENGINES) if flags.engine == "both" else (flags.engine,)


def _engines(flags: argparse.Namespace) -> tuple[str, ...]:
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
