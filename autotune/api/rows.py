"""Rows of results as people take them up: a DataFrame, plain dicts, text, a notebook's cell."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.console import Console, RenderableType

from autotune.documents.rows import ResultRow
from autotune.errors import UsageError
from autotune.shown import counted, shown

if TYPE_CHECKING:
    import pandas

_STYLE = "font-family: monospace; white-space: pre; overflow-x: auto; line-height: normal"
_HTML = f"<pre style='{_STYLE}'>{{code}}</pre>"
_WIDTH = 200


@dataclass(frozen=True, kw_only=True, repr=False)
class ResultRows:
    """Base of what has results."""

    results: tuple[ResultRow, ...]
    """The config to write for each engine and batch size, and how it compares."""

    def rows(self) -> list[dict[str, Any]]:
        """Return the results as plain dicts, each as ``--json`` has it."""
        return [row.as_json() for row in self.results]

    def table(self) -> pandas.DataFrame:
        """Return the results with a column for each of their fields, and in place of ``config`` one
        for each of its keys. Raises UsageError where pandas is not installed."""
        try:
            import pandas
        except ImportError:
            raise UsageError(
                "table() needs pandas: pip install pandas; rows() has the same as plain dicts"
            ) from None
        table = pandas.DataFrame(self.rows())
        configs = pandas.DataFrame([dict(row.config) for row in self.results])
        return table.drop(columns="config").join(configs)

    def _views(self) -> Sequence[RenderableType]:
        """Return what people are shown, from top to bottom."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"<autotune.{type(self).__name__} with {counted(len(self.results), 'result')}>"

    def __str__(self) -> str:
        return _printed(self._views()).export_text().rstrip()

    def _repr_html_(self) -> str:
        return _printed(self._views()).export_html(inline_styles=True, code_format=_HTML)


def _printed(views: Sequence[RenderableType]) -> Console:
    """Print into nothing, and keep it. A notebook's cell is not printed to here, see rich."""
    console = Console(
        file=io.StringIO(),
        force_jupyter=False,
        record=True,
        width=_WIDTH,
        highlight=False,
        markup=False,
        emoji=False,
    )
    for view in views:
        if isinstance(view, str):
            console.print(shown(view), soft_wrap=True)
        else:
            console.print(view)
    return console
