"""``storage backup``: copies a storage, also while a run goes on."""

from __future__ import annotations

import argparse
from pathlib import Path

from autotune.commands.output import Output
from autotune.commands.storage_flag import add_storage_flag
from autotune.exit_codes import ExitCode
from autotune.studies.storage.maintenance import DUMP_TOOL, back_up
from autotune.studies.storage.url import ServerAddress, parse_address


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add which storage is copied, and the file."""
    add_storage_flag(parser)
    parser.add_argument("file", type=Path, nargs="?", help="default: beside it, with the time")


def run(flags: argparse.Namespace, output: Output) -> int:
    """Copy a storage that may be in use."""
    path = back_up(flags.storage, flags.file)
    output.result({"backup": str(path)}, f"wrote {path}")
    if isinstance(parse_address(flags.storage), ServerAddress):
        output.note(
            f"each study was copied by itself; {DUMP_TOOL} copies the database at one moment"
        )
    return ExitCode.DONE
