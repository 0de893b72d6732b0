"""``convert``: makes an engine's file legal for another engine."""

from __future__ import annotations

import argparse
from pathlib import Path

from autotune.commands.output import Output
from autotune.engines import ENGINES
from autotune.engines.convert import convert_file
from autotune.exit_codes import ExitCode


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the file, its engine and the other, and facts that the file does not hold."""
    parser.add_argument("file", type=Path)
    parser.add_argument("--from", dest="source", choices=tuple(ENGINES), required=True)
    parser.add_argument("--to", dest="target", choices=tuple(ENGINES), required=True)
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("configs"),
        metavar="F",
        help="a folder, laid out as that of run, or the file itself (configs)",
    )
    parser.add_argument("--triton-version", help="of the serving machine (as the source says)")
    parser.add_argument("--device-name", help="the GPU as its driver calls it (as the source says)")
    parser.add_argument(
        "--per-channel-quant",
        action="store_true",
        help="scales are per channel: vLLM's names omit it",
    )


def run(flags: argparse.Namespace, output: Output) -> int:
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
    output.result({"path": str(done.path), "changes": list(done.changes)}, "\n".join(lines))
    return ExitCode.DONE
