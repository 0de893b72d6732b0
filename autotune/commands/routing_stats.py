"""``routing-stats``: load and padding of a recorded routing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from autotune.commands.flag_kinds import Many
from autotune.commands.output import Output
from autotune.documents.routing import RoutingStatsDocument
from autotune.engines import DEFAULT_TOKENS
from autotune.errors import UsageError
from autotune.exit_codes import ExitCode
from autotune.models.load import load_shape
from autotune.models.parse import parse_shape
from autotune.models.problems import check_recording
from autotune.routing.trace import RoutingTrace
from autotune.routing.trace_files import read_trace
from autotune.spec.ranges import EXPERTS, RANKS, TOKENS


@dataclass(frozen=True, kw_only=True)
class Flags:
    """Which recording is read, whose experts it is about, and the picture's file."""

    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="what capture-routing wrote")]
    model: Annotated[
        str | None,
        typer.Option(
            "--model", show_default="as the ids say", help="the model of which it was recorded"
        ),
    ] = None
    shape: Annotated[
        str | None, typer.Option("--shape", help="instead of --model: E=8,topk=2,hidden=4096,…")
    ] = None
    ep_size: Annotated[int, typer.Option("--ep-size", "--ep", help="expert parallel size")] = 1
    batch_sizes: Annotated[
        tuple[int, ...],
        typer.Option(
            "--batch-size",
            show_default="the engines' 18, from 1 to 4096",
            help="tokens in a batch",
        ),
        Many(),
    ] = DEFAULT_TOKENS
    plot: Annotated[Path, typer.Option("--plot", help="PNG, SVG or PDF")] = Path(
        "routing-stats.png"
    )


def run(flags: Flags, output: Output) -> int:
    """Print load, entropy, padding and the slowest rank of a recording."""
    from autotune.report.routing_stats import (
        load_row,
        padding_row,
        padding_words,
        routing_stats,
        stats_picture,
    )
    from autotune.report.style import IMAGES, styled
    from autotune.report.terminal.tables import rows_table

    kind = flags.plot.suffix.removeprefix(".").lower()
    if kind not in IMAGES:
        endings = ", ".join(f".{each}" for each in IMAGES)
        raise UsageError(f"--plot {flags.plot}: the name should end in {endings}")
    RANKS.check("--ep-size", flags.ep_size)
    for tokens in flags.batch_sizes:
        TOKENS.check("--batch-size", tokens)
    recording = read_trace(flags.folder)
    experts, top_k = _sizes(flags.model, flags.shape, recording, output)
    loads, paddings = routing_stats(recording, experts, top_k, flags.ep_size, flags.batch_sizes)
    by_layer = tuple(load_row(load, flags.ep_size) for load in loads)
    by_size = tuple(map(padding_row, paddings))
    with styled():
        image = stats_picture(loads, paddings).image(kind)
    try:
        flags.plot.write_bytes(image)
    except OSError as error:
        raise UsageError(f"--plot {flags.plot} cannot be written: {error.strerror}") from error
    output.result(
        RoutingStatsDocument(
            routing=recording.routing,
            notes=dict(recording.notes),
            experts=experts,
            top_k=top_k,
            ep_size=flags.ep_size,
            layers=by_layer,
            padding=by_size,
            plot=flags.plot,
        ),
        f"{recording.origin}: {recording.routing}, {experts} experts, top-k {top_k}",
        rows_table([row.as_json() for row in by_layer]),
        "\nrows after padding over rows before:",
        rows_table(list(map(padding_words, by_size))),
        f"wrote {flags.plot}",
    )
    return ExitCode.DONE


def _sizes(
    model: str | None, shape: str | None, recording: RoutingTrace, output: Output
) -> tuple[int, int]:
    """Return (experts, top-k): the model's, else as the ids have them."""
    if model and shape:
        raise UsageError("give either --model NAME or --shape E=..,topk=..,hidden=..,…")
    if model or shape:
        known = load_shape(model) if model else parse_shape(shape or "")
        check_recording(known, recording)
        return known.experts, known.top_k
    if "experts" in recording.notes:
        # The model's top-k counts no fused shared experts.
        return _noted(recording, "experts"), _noted(recording, "top_k", recording.columns)
    experts = 1 + max(int(rows.ids.max()) for rows in recording.layers.values())
    output.note(f"note: taken to have {experts} experts, the largest id and one; --model knows")
    return experts, recording.columns


def _noted(recording: RoutingTrace, name: str, default: int = 0) -> int:
    """Return a number of the recording's notes. Raises UsageError where it is none of experts."""
    text = recording.notes.get(name, str(default))
    number = int(text) if text.isdecimal() else None
    EXPERTS.check(f"{name} in the notes of {recording.origin}", text if number is None else number)
    return number or 0
