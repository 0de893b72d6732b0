"""``capture-routing`` and ``routing-stats``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from autotune.commands.output import Output
from autotune.engines import DEFAULT_TOKENS
from autotune.errors import UsageError
from autotune.models import ModelShape, load_shape, parse_shape
from autotune.models.routings import check_recording
from autotune.routing.trace import RoutingTrace
from autotune.routing.trace_files import (
    SNAPSHOT_ROWS,
    check_folder,
    read_trace,
    write_trace,
)

EXIT_INTERRUPTED = 130
_FEWEST = 2 * SNAPSHOT_ROWS
"""SGLang's tool reads two snapshots of each layer."""


def add_capture_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", required=True, help="folder of a checkpoint, or Hub name")
    parser.add_argument(
        "--prompts",
        type=Path,
        metavar="FILE",
        help="a text a line, or .jsonl with prompt or text (default: topics of Python's help)",
    )
    parser.add_argument("--tokens", type=int, default=8192, help="rows of each layer (8192)")
    parser.add_argument(
        "--fused-shared-experts",
        type=int,
        default=0,
        metavar="N",
        help="N further columns, for SGLang's own tuner where it fuses shared experts (0)",
    )
    parser.add_argument("--output-dir", type=Path, default=Path("topk_ids"), help="(topk_ids)")


def add_stats_flags(parser: argparse.ArgumentParser) -> None:
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


def capture_command(args: argparse.Namespace, output: Output) -> int:
    """Run a model over texts and write which experts it chose. 130 where Ctrl-C ended it: what was
    recorded by then is written."""
    from autotune.routing.capture import INTERRUPTED

    _check_capture_flags(args, output)
    try:
        recording = _captured(args, output)
        files = write_trace(recording, args.output_dir)
    except KeyboardInterrupt:
        output.note(f"nothing is written to {args.output_dir}")
        raise
    rows = recording.fewest_rows
    data = {
        "folder": str(args.output_dir),
        "routing": recording.routing,
        "layers": sorted(recording.layers),
        "tokens": rows,
        "top_k": recording.columns,
        "files": [str(file) for file in files],
        "interrupted": INTERRUPTED in recording.notes,
    }
    output.result(
        data,
        f"wrote {rows} tokens of {len(recording.layers)} MoE layers to {args.output_dir} "
        f"({len(files)} files, {recording.routing})\n"
        f"next: autotune run --model {args.model} --topk-ids-dir {args.output_dir}",
    )
    if INTERRUPTED in recording.notes:
        output.note(f"interrupted: these are {rows} tokens, not {args.tokens}")
        return EXIT_INTERRUPTED
    return 0


def _check_capture_flags(args: argparse.Namespace, output: Output) -> None:
    """Raises UsageError for what cannot be, before the model takes its time."""
    if args.tokens < 1:
        raise UsageError(f"--tokens is {args.tokens}; at least 1 token must be recorded")
    if args.fused_shared_experts < 0:
        raise UsageError(
            f"--fused-shared-experts is {args.fused_shared_experts}; it is how many further "
            "columns there are: 0, or 1 for the models whose shared expert SGLang fuses"
        )
    check_folder(args.output_dir)
    if args.tokens < _FEWEST:
        output.note(f"note: SGLang's own tool needs {_FEWEST} tokens; --topk-ids-dir here does not")


def _captured(args: argparse.Namespace, output: Output) -> RoutingTrace:
    from autotune.report.terminal.token_bar import token_bar
    from autotune.routing.capture import capture
    from autotune.routing.prompts import texts_of

    texts = texts_of(args.prompts)
    fused = args.fused_shared_experts
    with token_bar(output.err, live=output.err.is_terminal and not output.quiet) as done:
        return capture(args.model, texts, args.tokens, fused_shared_experts=fused, done=done)


def stats_command(args: argparse.Namespace, output: Output) -> int:
    """Load, entropy, padding and the slowest rank of a recording."""
    from autotune.report.routing_stats import (
        Layout,
        load_rows,
        padding_rows,
        routing_stats,
        stats_picture,
    )
    from autotune.report.style import IMAGES, styled
    from autotune.report.terminal.tables import rows_table

    kind = args.plot.suffix.removeprefix(".").lower()
    if kind not in IMAGES:
        raise UsageError(
            f"--plot {args.plot}: the name should end in {', '.join(f'.{each}' for each in IMAGES)}"
        )
    if min(args.batch_size) < 1:
        raise UsageError(f"--batch-size is {min(args.batch_size)}; it is a whole number from 1")
    recording = read_trace(args.folder)
    experts, top_k = _sizes(args, recording, output)
    stats = routing_stats(recording, Layout(experts, top_k, args.ep_size), args.batch_size)
    loads, paddings = list(load_rows(stats)), list(padding_rows(stats))
    with styled():
        image = stats_picture(stats).image(kind)
    try:
        args.plot.write_bytes(image)
    except OSError as error:
        raise UsageError(f"--plot {args.plot} cannot be written: {error.strerror}") from error
    data: dict[str, Any] = {
        "routing": recording.routing,
        "notes": dict(recording.notes),
        "experts": experts,
        "top_k": top_k,
        "ep_size": args.ep_size,
        "layers": loads,
        "padding": paddings,
        "plot": str(args.plot),
    }
    output.result(
        data,
        f"{recording.origin}: {recording.routing}, {experts} experts, top-k {top_k}",
        rows_table(loads),
        "\nrows after padding over rows before:",
        rows_table(paddings),
        f"wrote {args.plot}",
    )
    return 0


def _sizes(args: argparse.Namespace, recording: RoutingTrace, output: Output) -> tuple[int, int]:
    """(experts, top-k): of the model, else as the ids have them."""
    if args.model and args.shape:
        raise UsageError("give either --model NAME or --shape E=..,topk=..,hidden=..,…")
    shape: ModelShape | None = None
    if args.model:
        shape = load_shape(args.model)
    elif args.shape:
        shape = parse_shape(args.shape)
    elif "experts" in recording.notes:
        top_k = recording.notes.get("top_k", recording.columns)  # without fused shared experts
        return int(recording.notes["experts"]), int(top_k)
    if shape is not None:
        check_recording(shape, recording)
        return shape.experts, shape.top_k
    experts = 1 + max(int(rows.ids.max()) for rows in recording.layers.values())
    output.note(f"note: taken to have {experts} experts, the largest id and one; --model knows")
    return experts, recording.columns
