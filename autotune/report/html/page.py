"""One HTML page and its pictures, from storages alone."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from autotune.engines.atomic import write_text
from autotune.report.html import document
from autotune.report.html.comparisons import (
    Sides,
    compare_charts,
    compare_section,
    routings_section,
    sides_of,
)
from autotune.report.html.layer_section import layer_section
from autotune.report.html.result_charts import result_charts
from autotune.report.html.search_charts import search_charts
from autotune.report.layers import TunedLayer, layers_of
from autotune.report.style import Picture, styled
from autotune.studies.study_record import StoredStudy

_MOST_LETTERS = 80
"""The longest part of a model's name in a file's name: file systems take 255 bytes."""


_Part = tuple[str, str, Sequence[Picture]]
"""A section with what it shows: the beginning of its PNG files' names, its text, its pictures."""


def write_report(
    studies: Sequence[StoredStudy],
    folder: Path,
    other: Sequence[StoredStudy] = (),
    names: tuple[str, str] = ("here", "there"),
) -> list[Path]:
    """Write ``report.html`` and PNG files into ``folder``; return the paths, the page first.
    ``other`` is the storage to compare, ``names`` what the two are called. Raises OSError where the
    folder cannot be written."""
    layers = layers_of(studies)
    with styled():
        across = routings_section(layers)
        parts = list(_parts(layers, sides_of(layers, layers_of(other), names)))
        folder.mkdir(parents=True, exist_ok=True)
        pictures = []
        for name, _, shown in parts:
            for picture in shown:
                path = folder / f"{name}-{picture.slug}.png"
                path.write_bytes(picture.png())
                pictures.append(path)
    page = folder / "report.html"
    body = [text for _, text, _ in parts] or [document.paragraph("The storage has no trials yet.")]
    write_text(page, document.page(_title(layers), [*body, across]))
    return [page, *pictures]


def _parts(layers: Sequence[TunedLayer], sides: Sequence[Sides]) -> Iterator[_Part]:
    for number, layer in enumerate(layers, 1):
        pictures = (*result_charts(layer), *search_charts(layer))
        yield _slug(number, layer), layer_section(layer, pictures), pictures
    for number, pair in enumerate(sides, 1):
        pictures = tuple(compare_charts(pair))
        yield _slug(number, pair.here), compare_section(pair, pictures), pictures


def _title(layers: Sequence[TunedLayer]) -> str:
    models = sorted({layer.model for layer in layers})
    devices = sorted({layer.device.name for layer in layers})
    return f"{', '.join(models) or 'Nothing'} on {', '.join(devices) or 'no device'}"


def _slug(number: int, layer: TunedLayer) -> str:
    name = re.sub(r"[^A-Za-z0-9]+", "-", layer.model.rsplit("/", maxsplit=1)[-1]).strip("-")
    return f"{number}-{name[:_MOST_LETTERS].lower() or 'layer'}"
