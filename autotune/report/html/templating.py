"""Templates of pages, filled: no script, no link that loads, nothing from the network.

jinja2 is imported here alone: importing this file raises MissingExtraError where it is not
installed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import autotune
from autotune.extras import needed

with needed("report", "a page"):
    from jinja2 import Environment, PackageLoader, StrictUndefined


@dataclass(frozen=True, slots=True)
class Table:
    """What a page shows as a table; None is an empty cell."""

    header: Sequence[str]
    rows: Sequence[Sequence[object]]
    texts: Sequence[str] = ()
    """Columns of text, by their names in the header; the others are numbers, and end alike."""


def filled(template: str, title: str, **values: Any) -> str:
    """Return the page that a file of ``templates/`` makes of the values. All of them are escaped:
    they come from storages, which others may have written."""
    return (
        _templates()
        .get_template(template)
        .render(title=title, version=autotune.__version__, **values)
    )


def _templates() -> Environment:
    return Environment(
        loader=PackageLoader("autotune.report.html"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
