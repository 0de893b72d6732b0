"""Flags that name a layer and what enters it, and the settings made from them."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from autotune.commands.batch_sizes import named_sizes, size, words_of_sizes
from autotune.commands.flag_kinds import Beside, Many, OneOf, existing_beside, paths
from autotune.engines import DEFAULT_TOKENS
from autotune.engines.own_code.asking import NOBODY
from autotune.errors import UsageError
from autotune.routing.distributions import canonical
from autotune.routing.trace import RECORDED, make_known
from autotune.routing.trace_files import read_trace
from autotune.settings import ModelSettings, Settings, settings_from
from autotune.spec.problem import Dtype
from autotune.spec.ranges import RANKS

MODEL_HELP = "catalogue name, Hugging Face name, folder or config.json (see 'autotune models')"
_WEIGHTS = "Weights"
BatchSizes = Annotated[
    tuple[int | str, ...],
    typer.Option(
        "--batch-size",
        parser=size,
        metavar="N",
        show_default="the engines' 18, from 1 to 4096",
        help="tokens in a batch; auto:FILE: those of a server's log or steps.csv, 18 at most "
        "(auto=N:FILE: N)",
    ),
    Many(words_of_sizes),
    Beside(existing_beside),
]


def known_models() -> list[str]:
    """Return the names that a shell completes."""
    from autotune.models.load import catalogue_names

    return catalogue_names()


@dataclass(frozen=True, kw_only=True)
class SplitFlags:
    """The flags that say how a model is split, and in which dtype: those of the engines."""

    panel = "Model"

    tp_size: Annotated[
        int,
        typer.Option(
            "--tp-size",
            "--tp",
            "--tensor-parallel-size",
            help="ranks of a layer, as in SGLang; 1 beside a larger --ep-size means as many as "
            "that",
        ),
    ] = 1
    ep_size: Annotated[
        int | None,
        typer.Option(
            "--ep-size",
            "--ep",
            show_default="1",
            help="parts into which experts are split; --tp-size / --ep-size ranks share each",
        ),
    ] = None
    enable_expert_parallel: Annotated[
        bool,
        typer.Option(
            "--enable-expert-parallel",
            help="as in vLLM: --ep-size is --tp-size times --data-parallel-size",
        ),
    ] = False
    data_parallel_size: Annotated[
        int,
        typer.Option(
            "--data-parallel-size",
            help="as in vLLM, where a layer has as many times --tp-size ranks",
        ),
    ] = 1
    ep_num_redundant_experts: Annotated[
        int,
        typer.Option(
            "--ep-num-redundant-experts",
            help="as in SGLang, num_redundant_experts of vLLM's --eplb-config",
        ),
    ] = 0
    ep_rank: Annotated[
        int | None,
        typer.Option(
            "--ep-rank",
            show_default="the most loaded rank",
            help="whose experts are tuned",
        ),
    ] = None
    dtype: Annotated[
        str,
        typer.Option(
            "--dtype",
            rich_help_panel=_WEIGHTS,
            help="of the weights; auto: what the model's config says",
        ),
        OneOf(("auto", *Dtype)),
    ] = "auto"
    per_channel_quant: Annotated[
        bool,
        typer.Option(
            "--per-channel-quant",
            rich_help_panel=_WEIGHTS,
            help="weights have a scale for each channel",
        ),
    ] = False
    disable_shared_experts_fusion: Annotated[
        bool,
        typer.Option(
            "--disable-shared-experts-fusion",
            rich_help_panel=_WEIGHTS,
            help="as in SGLang: shared experts are apart",
        ),
    ] = False


@dataclass(frozen=True, kw_only=True)
class LayerFlags(SplitFlags):
    """The flags that say what a layer is, but for its model's name, and what enters it."""

    panel = "Model"

    shape: Annotated[
        str | None,
        typer.Option(
            "--shape",
            help="instead of --model: 'E=8, topk=2, hidden=4096, intermediate=14336', and "
            "gated=false where experts have no gate",
        ),
    ] = None
    batch_sizes: BatchSizes = DEFAULT_TOKENS
    routing: Annotated[
        tuple[str, ...],
        typer.Option(
            "--routing",
            metavar="R",
            show_default="uniform",
            help="uniform, zipf:A, dirichlet:C, balanced, worst, grouped[:G:T], recorded; "
            "several: the config with the best mean over all",
        ),
        Many(),
    ] = ()
    engine_sources: Annotated[
        tuple[Path, ...],
        typer.Option(
            "--engine-source",
            show_default="the installed engines'",
            help="engines' wheels, or folders of them, whose own code is asked what they call "
            "their files (none: nobody is asked)",
        ),
        Many(paths),
        Beside(existing_beside),
    ] = ()
    topk_ids_dir: Annotated[
        Path | None,
        typer.Option("--topk-ids-dir", help="the recording (see 'autotune capture-routing')"),
    ] = None


@dataclass(frozen=True, kw_only=True)
class ModelFlags(LayerFlags):
    """The flags that name a layer: those of the engines' scripts, with their defaults."""

    panel = "Model"

    model: Annotated[
        str | None,
        typer.Option("--model", metavar="NAME", help=MODEL_HELP, autocompletion=known_models),
        Beside(existing_beside),
    ] = None


def from_flags(kind: type[Settings], *flags: Any, **found: Any) -> Settings:
    """Make settings of a class: a field is what was ``found`` for it, else the flag of its name,
    of the last that have it, else its default. Raises UsageError for values that cannot work."""
    names = get_type_hints(kind)
    given = {
        each.name: getattr(of, each.name)
        for of in flags
        for each in fields(of)
        if each.name in names
    }
    return settings_from(kind, given | found)


def model_settings(
    flags: LayerFlags, model: str | None, split: SplitFlags | None = None
) -> ModelSettings:
    """Make the settings of a layer of ``model``, None for --shape; ``split`` is the model's own in
    place of the flags'. Raises UsageError for values that cannot work."""
    folder, split = flags.topk_ids_dir, split or flags
    tp_size, ep_size = _ranks(split)
    return from_flags(
        ModelSettings,
        flags,
        split,
        model=model,
        tp_size=tp_size,
        ep_size=ep_size,
        routing=named_routing(",".join(flags.routing) or None, folder),
        topk_ids_dir=str(folder.absolute()) if folder else None,
        engine_sources=[p if str(p) == NOBODY else p.absolute() for p in flags.engine_sources],
        **named_sizes(flags.batch_sizes),
    )


def _ranks(flags: SplitFlags) -> tuple[int, int]:
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
