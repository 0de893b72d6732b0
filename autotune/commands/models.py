"""``models``: the built-in catalogue with its shapes."""

from __future__ import annotations

from dataclasses import dataclass

from autotune.commands.output import Output
from autotune.documents.machine import ModelsDocument
from autotune.exit_codes import ExitCode
from autotune.models.load import catalogue_shapes
from autotune.report.rows import model_row
from autotune.report.terminal.tables import rows_table


@dataclass(frozen=True, kw_only=True)
class Flags:
    """None: the catalogue is one table."""


def run(flags: Flags, output: Output) -> int:
    """Print the catalogue."""
    rows = tuple(map(model_row, catalogue_shapes()))
    output.result(ModelsDocument(models=rows), rows_table([row.as_json() for row in rows]))
    return ExitCode.DONE
