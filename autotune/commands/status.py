"""``status``: how far every study is."""

from __future__ import annotations

from autotune.api.stored import status_of
from autotune.commands.look import Look, LookFlags, watch
from autotune.commands.output import Output
from autotune.documents.storage import StatusDocument
from autotune.report.terminal.tables import status_tables
from autotune.studies.storage.raw import Source

Flags = LookFlags


def run(flags: LookFlags, output: Output) -> int:
    """Print how far every study is."""
    return watch(_look, flags, output)


def _look(source: Source, model: str | None) -> Look:
    rows = status_of(source, model)
    return StatusDocument(studies=rows), status_tables(rows)
