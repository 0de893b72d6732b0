"""``models``: the built-in catalogue with its shapes."""

from __future__ import annotations

from dataclasses import dataclass

from autotune.commands.output import Output
from autotune.exit_codes import ExitCode
from autotune.models.load import catalogue_shapes
from autotune.report.terminal.tables import model_row, rows_table


@dataclass(frozen=True, kw_only=True)
class Flags:
    """None: the catalogue is one table."""


def run(flags: Flags, output: Output) -> int:
    """Print the catalogue."""
    rows = [model_row(shape) for shape in catalogue_shapes()]
    output.result({"models": rows}, rows_table(rows))
    return ExitCode.DONE
