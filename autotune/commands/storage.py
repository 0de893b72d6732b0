"""``storage check``, ``storage backup`` and ``storage upgrade``."""

from __future__ import annotations

import argparse
from pathlib import Path

from autotune.commands.output import Output
from autotune.commands.registry import Action
from autotune.commands.storage_flag import add_storage_flag
from autotune.documents.rows import CheckRow, State
from autotune.documents.storage import (
    StorageBackupDocument,
    StorageCheckDocument,
    StorageUpgradeDocument,
)
from autotune.exit_codes import ExitCode
from autotune.report.terminal.tables import checks_table
from autotune.studies.storage.maintenance import (
    DUMP_TOOL,
    StorageFinding,
    back_up,
    check_storage,
    upgrade,
)
from autotune.studies.storage.url import ServerAddress, parse_address, public_url


def _check(flags: argparse.Namespace, output: Output) -> int:
    """Print what the storage is made of. FAILED where something must be mended."""
    found = check_storage(flags.storage)
    rows = tuple(CheckRow(what=f.what, state=_state(f), detail=f.detail) for f in found)
    output.result(StorageCheckDocument(checks=rows), checks_table(rows))
    return ExitCode.FAILED if any(finding.fault for finding in found) else ExitCode.DONE


def _state(finding: StorageFinding) -> State:
    return "error" if finding.fault else "warning" if finding.doubt else "ok"


def _add_backup_flags(parser: argparse.ArgumentParser) -> None:
    add_storage_flag(parser)
    parser.add_argument("file", type=Path, nargs="?", help="default: beside it, with the time")


def _backup(flags: argparse.Namespace, output: Output) -> int:
    """Copy a storage that may be in use."""
    path = back_up(flags.storage, flags.file)
    output.result(StorageBackupDocument(backup=path), f"wrote {path}")
    if isinstance(parse_address(flags.storage), ServerAddress):
        output.note(
            f"each study was copied by itself; {DUMP_TOOL} copies the database at one moment"
        )
    return ExitCode.DONE


def _add_upgrade_flags(parser: argparse.ArgumentParser) -> None:
    add_storage_flag(parser)
    parser.add_argument("--backed-up", action="store_true", help="a server's: I have a copy")


def _upgrade(flags: argparse.Namespace, output: Output) -> int:
    """Bring an older Optuna's schema up to date, after a backup."""
    version, copy = upgrade(flags.storage, backed_up=flags.backed_up)
    if copy is not None:
        output.note(f"the storage as it was: {copy}")
    output.result(
        StorageUpgradeDocument(version=version, backup=copy),
        f"{public_url(flags.storage)} has schema {version}",
    )
    return ExitCode.DONE


CHECK = Action(add_storage_flag, _check)
BACKUP = Action(_add_backup_flags, _backup)
UPGRADE = Action(_add_upgrade_flags, _upgrade)
