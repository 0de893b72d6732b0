"""Flags that name a layer and what enters it, and the settings made from them."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, get_type_hints

from autotune.commands.batch_sizes import named_sizes, size
from autotune.engines import DEFAULT_TOKENS
from autotune.engines.own_code.asking import NOBODY
from autotune.errors import UsageError
from autotune.routing.distributions import canonical
from autotune.routing.trace import RECORDED, make_known
from autotune.routing.trace_files import read_trace
from autotune.settings import ModelSettings, Settings, settings_from
from autotune.spec.problem import Dtype
from autotune.spec.ranges import RANKS


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
