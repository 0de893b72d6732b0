"""``storage check``, ``storage backup`` and ``storage upgrade``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from autotune.commands.output import Output
from autotune.commands.registry import Action
from autotune.commands.storage_flag import StorageFlag
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


def _check(flags: StorageFlag, output: Output) -> int:
    """Print what the storage is made of. FAILED where something must be mended."""
    found = check_storage(flags.storage)
    rows = tuple(CheckRow(what=f.what, state=_state(f), detail=f.detail) for f in found)
    output.result(StorageCheckDocument(checks=rows), checks_table(rows))
    return ExitCode.FAILED if any(finding.fault for finding in found) else ExitCode.DONE


def _state(finding: StorageFinding) -> State:
    return "error" if finding.fault else "warning" if finding.doubt else "ok"


@dataclass(frozen=True, kw_only=True)
class BackupFlags(StorageFlag):
    """Which storage, and the copy."""

    file: Annotated[
        Path | None,
        typer.Argument(metavar="FILE", show_default="beside it, with the time", help="the copy"),
    ] = None


def _backup(flags: BackupFlags, output: Output) -> int:
    """Copy a storage that may be in use."""
    path = back_up(flags.storage, flags.file)
    output.result(StorageBackupDocument(backup=path), f"wrote {path}")
    if isinstance(parse_address(flags.storage), ServerAddress):
        output.note(
            f"each study was copied by itself; {DUMP_TOOL} copies the database at one moment"
        )
    return ExitCode.DONE


@dataclass(frozen=True, kw_only=True)
class UpgradeFlags(StorageFlag):
    """Which storage, and whether there is a copy of a server's."""

    backed_up: Annotated[bool, typer.Option("--backed-up", help="a server's: I have a copy")] = (
        False
    )


def _upgrade(flags: UpgradeFlags, output: Output) -> int:
    """Bring an older Optuna's schema up to date, after a backup."""
    version, copy = upgrade(flags.storage, backed_up=flags.backed_up)
    if copy is not None:
        output.note(f"the storage as it was: {copy}")
    output.result(
        StorageUpgradeDocument(version=version, backup=copy),
        f"{public_url(flags.storage)} has schema {version}",
    )
    return ExitCode.DONE


CHECK = Action(StorageFlag, _check)
BACKUP = Action(BackupFlags, _backup)
UPGRADE = Action(UpgradeFlags, _upgrade)
