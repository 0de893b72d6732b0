"""``storage upgrade``: brings the schema of an older Optuna up to date."""

from __future__ import annotations

import argparse

from autotune.commands.output import Output
from autotune.commands.storage_flag import add_storage_flag
from autotune.exit_codes import ExitCode
from autotune.studies.storage.maintenance import upgrade
from autotune.studies.storage.url import public_url


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add which storage is upgraded, and whether there is a copy."""
    add_storage_flag(parser)
    parser.add_argument("--backed-up", action="store_true", help="a server's: I have a copy")


def run(flags: argparse.Namespace, output: Output) -> int:
    """Bring an older schema up to date, after a backup."""
    version, copy = upgrade(flags.storage, backed_up=flags.backed_up)
    if copy is not None:
        output.note(f"the storage as it was: {copy}")
    output.result(
        {"schema": version, "backup": str(copy) if copy else None},
        f"{public_url(flags.storage)} has schema {version}",
    )
    return ExitCode.DONE
