"""``best``: the winners so far."""

from __future__ import annotations

import argparse

from rich.console import Group

from autotune.commands.look import Look, add_look_flags, watch
from autotune.commands.output import Output
from autotune.commands.own_runs import placed
from autotune.report.kept import kept_words
from autotune.report.terminal.tables import result_row, results_table
from autotune.studies.storage.raw import Source
from autotune.studies.storage.summaries import measured_studies
from autotune.tune.stored_results import select, shares_of, stored_results

add_flags = add_look_flags


def run(flags: argparse.Namespace, output: Output) -> int:
    """Print the winner of every study for each engine."""
    return watch(_look, flags, output)


def _look(source: Source, model: str | None) -> Look:
    studies = placed(select(measured_studies(source), model))
    rows = [
        result_row(result, shares_of(study))
        for study in studies
        for result in stored_results(study)
    ]
    kept = kept_words(row["kept"] for row in rows)
    return {"results": rows}, Group(results_table(rows), *([kept] if kept else []))
