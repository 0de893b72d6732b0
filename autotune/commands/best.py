"""``best``: the winners so far."""

from __future__ import annotations

import argparse

from autotune.commands.look import Look, add_look_flags, watch
from autotune.commands.output import Output
from autotune.report.terminal.tables import result_row, results_table
from autotune.studies.storage.summaries import Source, measured_studies
from autotune.tune.stored_results import select, stored_results


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of commands that look at a storage."""
    add_look_flags(parser)


def run(flags: argparse.Namespace, output: Output) -> int:
    """Print the winners so far."""

    def look(source: Source) -> Look:
        studies = select(measured_studies(source), flags.model)
        results = [result for study in studies for result in stored_results(study)]
        rows = [result_row(result) for result in results]
        return {"results": rows}, results_table(rows)

    return watch(flags, output, look)
