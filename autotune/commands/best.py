"""``best``: the winners so far."""

from __future__ import annotations

from autotune.api.stored import best_of, best_view, rows_of
from autotune.commands.look import Look, LookFlags, watch
from autotune.commands.output import Output
from autotune.documents.storage import BestDocument
from autotune.studies.storage.raw import Source

Flags = LookFlags


def run(flags: LookFlags, output: Output) -> int:
    """Print the winner of every study for each engine."""
    return watch(_look, flags, output)


def _look(source: Source, model: str | None) -> Look:
    layers = best_of(source, model)
    return BestDocument(results=rows_of(layers)), best_view(layers)
