"""``status``: how far every study is."""

from __future__ import annotations

import argparse

from autotune.commands.look import Look, add_look_flags, watch
from autotune.commands.output import Output
from autotune.report.terminal.tables import status_row, status_table
from autotune.studies.storage.summaries import Source, study_summaries
from autotune.tune.stored_results import select


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of commands that look at a storage."""
    add_look_flags(parser)


def run(flags: argparse.Namespace, output: Output) -> int:
    """Print how far everything is."""

    def look(source: Source) -> Look:
        rows = [status_row(study) for study in select(study_summaries(source), flags.model)]
        return {"studies": rows}, status_table(rows)

    return watch(flags, output, look)
