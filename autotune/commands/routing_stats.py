"""``routing-stats``: load and padding of a recorded routing."""

from __future__ import annotations

import argparse
from pathlib import Path

from autotune.commands.output import Output
from autotune.engines import DEFAULT_TOKENS
from autotune.errors import UsageError
from autotune.exit_codes import ExitCode
from autotune.models.load import load_shape
from autotune.models.parse import parse_shape
from autotune.models.problems import check_recording
from autotune.routing.trace import RoutingTrace
from autotune.routing.trace_files import read_trace
from autotune.spec.ranges import EXPERTS, RANKS, TOKENS


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add which recording is read, whose experts it is about, and the picture's file."""
    parser.add_argument("folder", type=Path, metavar="D", help="what capture-routing wrote")
    parser.add_argument("--model", help="of which it was recorded (default: as the ids say)")
    parser.add_argument("--shape", help="instead of --model: E=8,topk=2,hidden=4096,…")
    parser.add_argument("--ep-size", "--ep", type=int, default=1, help="expert parallel size")
    parser.add_argument(
        "--batch-size", type=int, nargs="+", default=list(DEFAULT_TOKENS), metavar="N"
    )
    parser.add_argument(
        "--plot",
        type=Path,
        default=Path("routing-stats.png"),
        metavar="FILE",
        help="PNG, SVG or PDF",
    )


def run(flags: argparse.Namespace, output: Output) -> int:
    """Print load, entropy, padding and the slowest rank of a recording."""
    from autotune.report.routing_stats import load_rows, padding_rows, routing_stats, stats_picture
    from autotune.report.style import IMAGES, styled
    from autotune.report.terminal.tables import rows_table

    kind = flags.plot.suffix.removeprefix(".").lower()
    if kind not in IMAGES:
        endings = ", ".join(f".{each}" for each in IMAGES)
        raise UsageError(f"--plot {flags.plot}: the name should end in {endings}")
    RANKS.check("--ep-size", flags.ep_size)
    for tokens in flags.batch_size:
        TOKENS.check("--batch-size", tokens)
    recording = read_trace(flags.folder)
    experts, top_k = _sizes(flags, recording, output)
    loads, paddings = routing_stats(recording, experts, top_k, flags.ep_size, flags.batch_size)
    by_layer, by_size = list(load_rows(loads, flags.ep_size)), list(padding_rows(paddings))
    with styled():
        image = stats_picture(loads, paddings).image(kind)
    try:
        flags.plot.write_bytes(image)
    except OSError as error:
        raise UsageError(f"--plot {flags.plot} cannot be written: {error.strerror}") from error
    data = {
        "routing": recording.routing,
        "notes": dict(recording.notes),
        "experts": experts,
        "top_k": top_k,
        "ep_size": flags.ep_size,
        "layers": by_layer,
        "padding": by_size,
        "plot": str(flags.plot),
    }
    output.result(
        data,
        f"{recording.origin}: {recording.routing}, {experts} experts, top-k {top_k}",
        rows_table(by_layer),
        "\nrows after padding over rows before:",
        rows_table(by_size),
        f"wrote {flags.plot}",
    )
    return ExitCode.DONE


def _sizes(flags: argparse.Namespace, recording: RoutingTrace, output: Output) -> tuple[int, int]:
    """Return (experts, top-k): the model's, else as the ids have them."""
    if flags.model and flags.shape:
        raise UsageError("give either --model NAME or --shape E=..,topk=..,hidden=..,…")
    if flags.model or flags.shape:
        shape = load_shape(flags.model) if flags.model else parse_shape(flags.shape)
        check_recording(shape, recording)
        return shape.experts, shape.top_k
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
