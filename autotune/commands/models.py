"""``models``: the built-in catalogue with its shapes."""

from __future__ import annotations

import argparse

from autotune.commands.output import Output
from autotune.exit_codes import ExitCode
from autotune.models.load import catalogue_shapes
from autotune.report.terminal.tables import model_row, rows_table


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add nothing: the catalogue is one table."""


def run(flags: argparse.Namespace, output: Output) -> int:
    """Print the catalogue."""
    rows = [model_row(shape) for shape in catalogue_shapes()]
    output.result({"models": rows}, rows_table(rows))
    return ExitCode.DONE
