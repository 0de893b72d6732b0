"""``storage check``: version and integrity of a storage, and what is in it."""

from __future__ import annotations

import argparse

from autotune.commands.output import Output
from autotune.commands.storage_flag import add_storage_flag
from autotune.exit_codes import ExitCode
from autotune.report.terminal.tables import rows_table
from autotune.studies.storage.maintenance import StorageFinding, check_storage


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add which storage is looked at."""
    add_storage_flag(parser)


def run(flags: argparse.Namespace, output: Output) -> int:
    """Print what the storage is made of. FAILED where something must be mended."""
    found = check_storage(flags.storage)
    rows = [{"what": f.what, "state": _state(f), "detail": f.detail} for f in found]
    output.result({"checks": rows}, rows_table(rows))
    return ExitCode.FAILED if any(finding.fault for finding in found) else ExitCode.DONE


def _state(finding: StorageFinding) -> str:
    return "error" if finding.fault else "warning" if finding.doubt else "ok"
