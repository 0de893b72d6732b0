"""Pieces of one self-contained page: no script, no link that loads, nothing from the network."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files

import autotune
from autotune.report.style import Picture

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
"""The browser itself refuses whatever a page must not load."""


def page(title: str, body: Iterable[str]) -> str:
    """The whole document."""
    css = files("autotune.report.html").joinpath("page.css").read_text(encoding="utf-8")
    head = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<link rel="icon" href="data:,">'
        f"<title>{escape(title)}</title><style>{css}</style></head><body><main>"
    )
    by = f'<p class="soft">Written by autotune {autotune.__version__}.</p>'
    return "\n".join([head, f"<h1>{escape(title)}</h1>", by, *body, "</main></body></html>\n"])


def section(title: str, *parts: str) -> str:
    return "\n".join([f"<section><h2>{escape(title)}</h2>", *(p for p in parts if p), "</section>"])


def paragraph(text: str) -> str:
    return f"<p>{escape(text)}</p>"


def figure(picture: Picture) -> str:
    """A chart under its title, with its caption."""
    words = f"{escape(picture.title)}: {escape(picture.caption)}"
    drawn = (
        picture.inline_svg() if picture.tips else f'<img src="{picture.data_uri()}" alt="{words}">'
    )
    return (
        f'<figure id="{escape(picture.slug)}"><h3>{escape(picture.title)}</h3>'
        f"{drawn}<figcaption>{escape(picture.caption)}</figcaption></figure>"
    )


def table(header: Sequence[str], rows: Iterable[Sequence[object]], *, words: int = 1) -> str:
    """``words`` columns from the left are text, the others numbers; a config is text anywhere."""
    body = "\n".join(_row("td", row, words) for row in rows)
    return (
        f'<div class="wide"><table><thead>{_row("th", header, words)}</thead>'
        f"<tbody>\n{body}\n</tbody></table></div>"
    )


def pairs(rows: Iterable[tuple[str, object]]) -> str:
    """Names and values."""
    items = "".join(f"<dt>{escape(name)}</dt><dd>{escape(str(v))}</dd>" for name, v in rows)
    return f"<dl>{items}</dl>"


def _row(tag: str, values: Iterable[object], words: int) -> str:
    number = ' class="number"'
    cells = [
        f"<{tag}{number * (column >= words)}>{'' if value is None else escape(str(value))}</{tag}>"
        for column, value in enumerate(values)
    ]
    return f"<tr>{''.join(cells)}</tr>"
