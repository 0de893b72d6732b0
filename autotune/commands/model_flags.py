"""Flags that name a layer and what enters it, and the settings made from them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from autotune.api.asked import model_asked
from autotune.commands.batch_sizes import size, words_of_sizes
from autotune.commands.flag_kinds import Beside, Many, OneOf, existing_beside, paths
from autotune.engines import DEFAULT_TOKENS
from autotune.errors import UsageError
from autotune.settings import ModelSettings
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


def model_settings(
    flags: LayerFlags, model: str | None, split: SplitFlags | None = None
) -> ModelSettings:
    """Make the settings of a layer of ``model``, None for --shape; ``split`` is the model's own in
    place of the flags'. Raises UsageError for values that cannot work."""
    split = split or flags
    tp_size, ep_size = _ranks(split)
    found = {"model": model, "tp_size": tp_size, "ep_size": ep_size}
    return model_asked(
        vars(flags) | vars(split) | found | {"routing": ",".join(flags.routing) or None}
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
