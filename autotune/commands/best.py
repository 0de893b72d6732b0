"""``best``: the winners so far."""

from __future__ import annotations

import argparse
from typing import Any

from rich.console import Group

from autotune.commands.look import Look, add_look_flags, watch
from autotune.commands.output import Output
from autotune.commands.own_runs import placed
from autotune.report.kept import kept_words
from autotune.report.terminal.tables import (
    layer_heading,
    result_row,
    results_table,
    rounded,
    under_headings,
)
from autotune.studies.storage.raw import Source
from autotune.studies.storage.summaries import measured_studies
from autotune.tuning.stored_results import select, shares_of, stored_results

Row = dict[str, Any]
add_flags = add_look_flags


def run(flags: argparse.Namespace, output: Output) -> int:
    """Print the winner of every study for each engine."""
    return watch(_look, flags, output)


def _look(source: Source, model: str | None) -> Look:
    studies = placed(select(measured_studies(source), model))
    rows: list[Row] = []
    layers: dict[str, list[Row]] = {}
    for study in studies:
        named, words = {"model": study.attrs.model}, layer_heading(study.attrs, study.key)
        found = [named | result_row(r, shares_of(study)) for r in stored_results(study)]
        layers.setdefault(words, []).extend(found)
        rows += found
    tables = under_headings({words: results_table(of) for words, of in layers.items()})
    kept = kept_words(row["kept"] for row in rows)
    return {"results": [rounded(row) for row in rows]}, Group(tables, *([kept] if kept else []))
