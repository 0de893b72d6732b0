"""``best``: the winners so far."""

from __future__ import annotations

from rich.console import Group

from autotune.commands.look import Look, LookFlags, watch
from autotune.commands.output import Output
from autotune.commands.own_runs import placed
from autotune.documents.rows import ResultRow
from autotune.documents.storage import BestDocument
from autotune.report.kept import kept_words
from autotune.report.rows import layer_heading, stored_rows
from autotune.report.terminal.tables import results_table, under_headings
from autotune.studies.storage.raw import Source
from autotune.studies.storage.summaries import measured_studies
from autotune.tuning.stored_results import select

Flags = LookFlags


def run(flags: LookFlags, output: Output) -> int:
    """Print the winner of every study for each engine."""
    return watch(_look, flags, output)


def _look(source: Source, model: str | None) -> Look:
    studies = placed(select(measured_studies(source), model))
    layers: dict[str, list[ResultRow]] = {}
    found = [(layer_heading(study.attrs, study.key), stored_rows(study)) for study in studies]
    for words, rows in found:
        layers.setdefault(words, []).extend(rows)
    tables = under_headings({words: results_table(of) for words, of in layers.items()})
    results = tuple(row for _, rows in found for row in rows)
    kept = kept_words(row.kept for row in results)
    return BestDocument(results=results), Group(tables, *([kept] if kept else []))
