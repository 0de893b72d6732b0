"""``capture-routing``: records which experts a model chooses."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from autotune.commands.output import Output
from autotune.documents.routing import CaptureDocument
from autotune.errors import UsageError
from autotune.exit_codes import ExitCode
from autotune.routing.trace_files import SNAPSHOT_ROWS, check_folder, write_trace
from autotune.spec.ranges import Range

_FEWEST = 2 * SNAPSHOT_ROWS
"""Tokens that SGLang's tool needs: it reads two snapshots of each layer."""


@dataclass(frozen=True, kw_only=True)
class Flags:
    """Which model is run, on which texts, and the folder."""

    model: Annotated[str, typer.Option("--model", help="folder of a checkpoint, or Hub name")]
    prompts: Annotated[
        Path | None,
        typer.Option(
            "--prompts",
            show_default="topics of Python's help",
            help="a text a line, or .jsonl with prompt or text",
        ),
    ] = None
    tokens: Annotated[int, typer.Option("--tokens", help="rows of each layer")] = 8192
    fused_shared_experts: Annotated[
        int,
        typer.Option(
            "--fused-shared-experts",
            help="N further columns, for SGLang's own tuner where it fuses shared experts",
        ),
    ] = 0
    output_dir: Annotated[Path, typer.Option("--output-dir", help="folder of the recording")] = (
        Path("topk_ids")
    )


def run(flags: Flags, output: Output) -> int:
    """Run a model over texts and write which experts it chose. INTERRUPTED where Ctrl-C ended it:
    what was recorded by then is written."""
    from autotune.report.terminal.bars import token_bar
    from autotune.routing.capture import INTERRUPTED, capture

    _check_capture_flags(flags, output)
    try:
        texts, live = texts_of(flags.prompts), output.err.is_terminal and not output.quiet
        with token_bar(output.err, live=live) as done:
            fused = flags.fused_shared_experts
            recording = capture(
                flags.model, texts, flags.tokens, fused_shared_experts=fused, done=done
            )
        files = write_trace(recording, flags.output_dir)
    except KeyboardInterrupt:
        output.note(f"nothing is written to {flags.output_dir}")
        raise
    rows = recording.fewest_rows
    document = CaptureDocument(
        folder=flags.output_dir,
        routing=recording.routing,
        layers=tuple(sorted(recording.layers)),
        tokens=rows,
        top_k=recording.columns,
        files=tuple(files),
        interrupted=INTERRUPTED in recording.notes,
    )
    output.result(
        document,
        f"wrote {rows} tokens of {len(recording.layers)} MoE layers to {flags.output_dir} "
        f"({len(files)} files, {recording.routing})\n"
        f"next: autotune run --model {flags.model} --topk-ids-dir {flags.output_dir}",
    )
    if INTERRUPTED in recording.notes:
        output.note(f"interrupted: these are {rows} tokens, not {flags.tokens}")
        return ExitCode.INTERRUPTED
    return ExitCode.DONE


def _check_capture_flags(flags: Flags, output: Output) -> None:
    """Raise UsageError for flags that cannot work, before the model takes its time."""
    Range(1, 100_000_000).check("--tokens", flags.tokens)
    Range(0, 64).check("--fused-shared-experts", flags.fused_shared_experts)
    check_folder(flags.output_dir)
    if flags.tokens < _FEWEST:
        output.note(f"note: SGLang's own tool needs {_FEWEST} tokens; --topk-ids-dir here does not")


def texts_of(file: Path | None) -> list[str]:
    """Return a text for each line; of a .jsonl file the line's "prompt" or "text", or the line
    where it is a string. Without a file the topics of Python's own help: English prose and code.

    Raises UsageError for a file that cannot be read or holds no text.
    """
    if file is None:
        from pydoc_data.topics import topics

        return [str(text) for _, text in sorted(topics.items())]
    try:
        lines = [line for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--prompts {file} cannot be read: {error}") from error
    if not lines:
        raise UsageError(f"--prompts {file} is empty; it should hold a text a line")
    return [_json_text(file, line) for line in lines] if file.suffix == ".jsonl" else lines


def _json_text(file: Path, line: str) -> str:
    try:
        value = json.loads(line)
    except ValueError:
        value = None
    text = value if isinstance(value, str) else None
    if isinstance(value, dict):
        text = value.get("prompt", value.get("text"))
    if not isinstance(text, str):
        raise UsageError(
            f'--prompts {file}: {line[:60]!r} is no JSON string and no object with a "prompt" or '
            '"text" that is one'
        )
    return text
