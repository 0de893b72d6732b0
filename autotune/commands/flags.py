"""Groups of flags that several commands share, and the objects made from them."""

from __future__ import annotations

import argparse
import logging
import os
from pathlib import Path

from autotune.devices import auto_selector
from autotune.engines import DEFAULT_TOKENS, ENGINES
from autotune.errors import UsageError
from autotune.kernels.problem import Dtype, Kernel
from autotune.settings import ALL_GPUS, ModelSettings, RunSettings
from autotune.studies.samplers import SAMPLERS

_log = logging.getLogger(__name__)

DEFAULT_STORAGE = "sqlite:///autotune.db"


def add_model_flags(parser: argparse.ArgumentParser) -> None:
    """Which layer: the flags of the engines' scripts, with their defaults."""
    group = parser.add_argument_group("model")
    group.add_argument(
        "--model", help="catalogue name, Hugging Face name, folder or config.json (see 'models')"
    )
    group.add_argument(
        "--shape", help="instead of --model: E=8,topk=2,hidden=4096,intermediate=14336"
    )
    group.add_argument("--tp-size", "--tp", type=int, default=1, help="tensor parallel size")
    group.add_argument("--ep-size", "--ep", type=int, default=1, help="expert parallel size")
    group.add_argument("--ep-rank", type=int, help="whose experts are tuned (the most loaded rank)")
    group.add_argument(
        "--dtype",
        default="auto",
        metavar="DTYPE",
        help=f"auto (what the model's config says), {', '.join(d.value for d in Dtype)}",
    )
    group.add_argument("--per-channel-quant", action="store_true")
    group.add_argument("--disable-shared-experts-fusion", action="store_true")
    group.add_argument(
        "--batch-size",
        type=int,
        nargs="+",
        default=list(DEFAULT_TOKENS),
        metavar="N",
        help="default: the engines' 18, from 1 to 4096",
    )


def add_device_flags(parser: argparse.ArgumentParser) -> None:
    """Where times come from."""
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


def add_storage_flag(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--storage", default=DEFAULT_STORAGE, help=f"database URL or file ({DEFAULT_STORAGE})"
    )


def add_run_flags(parser: argparse.ArgumentParser) -> None:
    """How long, how, and where to."""
    group = parser.add_argument_group("search")
    group.add_argument("--trials", type=int, default=60, help="measurements per batch size (60)")
    group.add_argument("--timeout", type=float, metavar="S", help="seconds for the whole run")
    group.add_argument(
        "--run-timeout", type=float, default=120.0, metavar="S", help="seconds for one trial (120)"
    )
    group.add_argument(
        "--kernel",
        choices=[kernel.value for kernel in Kernel],
        default=Kernel.FUSED.value,
        help="one config for both GEMMs, or one for each where the engine reads two",
    )
    group.add_argument("--sampler", choices=sorted(SAMPLERS), default="surrogate")
    group.add_argument(
        "--stop-gain",
        type=float,
        default=0.005,
        metavar="SHARE",
        help="end a study when the surrogate expects to save less (0.005 is 0.5 %%; 0: never)",
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
        "--compile-timeout", type=float, default=60.0, metavar="S", help="for one compile (60)"
    )
    group = parser.add_argument_group("output")
    group.add_argument("--engine", choices=(*ENGINES, "both"), default="both")
    group.add_argument("--output-dir", type=Path, default=Path("configs"))
    add_storage_flag(group)  # type: ignore[arg-type]


def model_settings(args: argparse.Namespace) -> ModelSettings:
    """Raises UsageError for what cannot be."""
    return ModelSettings(
        model=args.model,
        shape=args.shape,
        tp_size=args.tp_size,
        ep_size=args.ep_size,
        ep_rank=args.ep_rank,
        dtype=args.dtype,
        per_channel_quant=args.per_channel_quant,
        disable_shared_experts_fusion=args.disable_shared_experts_fusion,
        batch_sizes=tuple(args.batch_size),
    )


def device_selector(args: argparse.Namespace) -> str:
    """The selector with auto resolved; says so where no GPU was found."""
    if args.device != "auto":
        return str(args.device)
    selector = auto_selector()
    if selector != "cuda":
        _log.info("no GPU found on this machine: going on with --device %s", selector)
    return selector


def cache_dir(args: argparse.Namespace) -> Path:
    """--cache-dir, else the user's cache folder."""
    if args.cache_dir is not None:
        return Path(args.cache_dir).absolute()
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "autotune"


def run_settings(args: argparse.Namespace) -> RunSettings:
    """Raises UsageError for what cannot be."""
    device = device_selector(args)
    if args.jobs is not None and device.startswith("cuda"):
        raise UsageError(
            f"--workers {args.jobs} with --device {device}: two workers on one GPU would disturb "
            "each other's times, so each GPU has one. Choose GPUs with --gpus 0,1"
        )
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    jobs = args.jobs if args.jobs is not None else _jobs(device, cores or 1)
    return RunSettings(
        model=model_settings(args),
        device=device,
        kernel=Kernel(args.kernel),
        l2=args.l2,
        trials=args.trials,
        timeout_s=args.timeout,
        run_timeout_s=args.run_timeout,
        sampler=args.sampler,
        stop_gain=args.stop_gain,
        engines=tuple(ENGINES) if args.engine == "both" else (args.engine,),
        output_dir=args.output_dir.absolute(),
        cache_dir=cache_dir(args),
        jobs=jobs,
        compile_jobs=args.compile_jobs,
        compile_timeout_s=args.compile_timeout,
        gpus=args.gpus.replace(" ", ""),
        seed=args.seed,
    )


def _jobs(device: str, cores: int) -> int:
    """Estimates are compiles, one per core; a GPU must not be shared, a recording needs no help."""
    return cores if device.startswith("estimate") else 1
