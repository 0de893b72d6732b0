"""``export``: writes the engine files again, from the storage alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from autotune.api.defaults import DEFAULT_OUTPUT
from autotune.api.stored import export
from autotune.commands.flag_kinds import Many
from autotune.commands.output import Output
from autotune.commands.storage_flag import StudiesFlags
from autotune.exit_codes import ExitCode


@dataclass(frozen=True, kw_only=True)
class Flags(StudiesFlags):
    """Whose files are written, and the folder."""

    output_dir: Annotated[
        Path | None,
        typer.Option(
            "--output-dir",
            show_default="that of a run that was started here, else configs",
            help="folder of the engine files",
        ),
    ] = None
    routing: Annotated[
        tuple[str, ...],
        typer.Option("--routing", metavar="R", help="whose winners, where there are several"),
        Many(),
    ] = ()


def run(flags: Flags, output: Output) -> int:
    """Write the engine files again, from the storage alone."""
    routing = ",".join(flags.routing) or None
    exported = export(flags.storage, flags.model, flags.output_dir, routing)
    document = exported.document
    output.result(document, "\n".join(f"wrote {file.path}" for file in document.files))
    if flags.output_dir is None:
        for folder in exported.folders:
            output.note(f"note: {folder}: {_whose(folder)}; --output-dir names another")
    for note in exported.notes:
        output.note(note)
    if not document.files:
        output.end("no file is written: nothing is measured yet")
        return ExitCode.FAILED
    return ExitCode.DONE


def _whose(folder: Path) -> str:
    if folder == DEFAULT_OUTPUT.absolute():
        return "the default, in the current folder"
    return "the folder of a run that was started here"
