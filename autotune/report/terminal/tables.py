"""Tables of results, studies and any rows, for people."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from autotune.documents.rows import CheckRow, ResultRow, StudyRow
from autotune.report.kept import config_words
from autotune.shown import shown
from autotune.spec.config import config_from_keys
from autotune.studies.lifecycle import EndReason
from autotune.studies.selection.select import Robust

_NARROW = 6
"""Letters of a heading that take no more room than numbers mostly do: it is not folded."""


def results_table(rows: Iterable[ResultRow]) -> Table:
    """Return a table with a line for each row."""
    rows = list(rows)
    has_shares = any(row.share_of_time is not None for row in rows)
    numbers = [
        "batch size",
        *(["of the time"] if has_shares else []),
        "µs",
        "default µs",
        "speed-up",
    ]
    table = table_of("engine", *numbers, "config", numbers=numbers)
    for row in rows:
        share = row.share_of_time
        speedup = "" if row.speedup is None else f"{row.speedup:.2f}×"
        note = " (unproven stand-in)" if row.kernel_is_proven is False else ""
        note += " (by its worst routing)" if row.robust == Robust.WORST.value else ""
        table.add_row(
            row.engine,
            str(row.batch_size),
            *(["" if share is None else f"{share:.1%}"] if has_shares else []),
            us_words(row.us),
            us_words(row.default_us),
            speedup,
            config_words(config_from_keys(row.config), is_kept=row.kept) + note,
        )
    return table


def status_tables(rows: Iterable[StudyRow]) -> Group:
    """Return a table for each layer, under its name, with a line for each batch size."""
    numbers = ("batch size", "trials", "lowest µs")
    tables: dict[str, Table] = {}
    for row in sorted(rows, key=lambda row: row.batch_size):
        table = tables.setdefault(
            row.layer, table_of(*numbers, "state", "outcomes", numbers=numbers)
        )
        outcomes = ", ".join(f"{count} {word}" for word, count in row.outcomes.items())
        measured = f"{row.measurements}/{row.target}"
        best, size = us_words(row.best_us), str(row.batch_size)
        table.add_row(size, measured, best, _state(row), outcomes)
    return under_headings(tables)


def under_headings(tables: Mapping[str, RenderableType]) -> Group:
    """Return tables, each under its heading."""
    return Group(*(part for words in sorted(tables) for part in (Text(words), tables[words])))


def _state(row: StudyRow) -> str:
    """Return how a study ended, without the figures of one that converged."""
    ended = row.ended or row.state
    converged = EndReason.CONVERGED.value
    return converged if ended.startswith(converged) else shown(ended)


def rows_table(rows: Sequence[Mapping[str, object]]) -> Table:
    """Return a table of any rows with the same fields; numbers to the right. A field that no row
    has is left out. A narrow terminal folds texts, and neither cuts headings nor numbers."""
    first = rows[0] if rows else {}
    names = [name for name in first if any(row[name] is not None for row in rows)]
    columns = [["" if row[name] is None else str(row[name]) for row in rows] for name in names]
    table = table_of(numbers=())
    for name, values in zip(names, columns, strict=True):
        widest, heading = max(map(len, values)), name.replace("_", " ")
        is_number = isinstance(first[name], int | float)
        if is_number and len(heading) > max(widest, _NARROW):
            heading = heading.replace(" ", "\n")
        table.add_column(heading, justify="right" if is_number else "left", no_wrap=is_number)
    for cells in zip(*columns, strict=True):
        table.add_row(*cells)
    return table


def checks_table(rows: Iterable[CheckRow]) -> Table:
    """Return a table with a line for each thing that was looked at."""
    return rows_table([row.as_json() for row in rows])


def table_of(*names: str, numbers: Collection[str]) -> Table:
    """Make a table without rows; columns of ``numbers`` stand to the right."""
    table = Table(box=None, padding=(0, 1), header_style="bold")
    for name in names:
        table.add_column(name, justify="right" if name in numbers else "left")
    return table


def us_words(value: float | None) -> str:
    """Return µs with one decimal; nothing where there are none."""
    return "" if value is None else f"{value:.1f}"
