"""``convert``: makes an engine's file legal for another engine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from autotune.api.defaults import DEFAULT_OUTPUT
from autotune.commands.flag_kinds import OneOf
from autotune.commands.output import Output
from autotune.documents.files import ConvertDocument
from autotune.engines import ENGINES
from autotune.engines.convert import convert_file
from autotune.exit_codes import ExitCode


@dataclass(frozen=True, kw_only=True)
class Flags:
    """The file, its engine and the other, and facts that the file does not hold."""

    file: Annotated[Path, typer.Argument(metavar="FILE", help="an engine's file")]
    source: Annotated[str, typer.Option("--from", help="whose file it is"), OneOf(tuple(ENGINES))]
    target: Annotated[str, typer.Option("--to", help="who is to read it"), OneOf(tuple(ENGINES))]
    output: Annotated[
        Path,
        typer.Option("--output", help="a folder, laid out as that of run, or the file itself"),
    ] = DEFAULT_OUTPUT
    triton_version: Annotated[
        str | None,
        typer.Option(
            "--triton-version", show_default="as the source says", help="of the serving machine"
        ),
    ] = None
    device_name: Annotated[
        str | None,
        typer.Option(
            "--device-name",
            show_default="as the source says",
            help="the GPU as its driver calls it",
        ),
    ] = None
    per_channel_quant: Annotated[
        bool,
        typer.Option("--per-channel-quant", help="scales are per channel: vLLM's names omit it"),
    ] = False


def run(flags: Flags, output: Output) -> int:
    """Write the file for the other engine, and say what was changed."""
    source, target = ENGINES[flags.source], ENGINES[flags.target]
    done = convert_file(
        flags.file,
        source,
        target,
        flags.output,
        triton_version=flags.triton_version,
        device_name=flags.device_name,
        per_channel_quant=flags.per_channel_quant,
    )
    lines = [f"wrote {done.path}", *(f"  {change}" for change in done.changes)]
    if done.env_folder is not None:
        lines.append(f"{target.title}: export {target.env_variable}={done.env_folder}")
    output.result(
        ConvertDocument(
            path=done.path, changes=done.changes, env={target.env_variable: done.env_folder}
        ),
        "\n".join(lines),
    )
    return ExitCode.DONE
