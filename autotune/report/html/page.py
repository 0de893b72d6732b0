"""One HTML page and its pictures, from storages alone."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from autotune.engines.atomic import write_text
from autotune.report.html.comparisons import (
    Sides,
    SidesSection,
    compare_charts,
    compare_section,
    routings_section,
    sides_of,
)
from autotune.report.html.layer_section import LayerSection, layer_section
from autotune.report.html.result_charts import result_charts
from autotune.report.html.search_charts import search_charts
from autotune.report.html.templating import filled
from autotune.report.layers import TunedLayer, layers_of
from autotune.report.style import styled
from autotune.studies.study_record import StoredStudy

_MOST_LETTERS = 80
"""The longest part of a model's name in a file's name: file systems take 255 bytes."""


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
    sides = sides_of(layers, layers_of(other), names)
    folder.mkdir(parents=True, exist_ok=True)
    with styled():
        sections = [_layer(layer) for layer in layers]
        pairs = [_sides(pair) for pair in sides]
        page = filled(
            "report.html.j2",
            _title(layers),
            layers=sections,
            pairs=pairs,
            routings=routings_section(layers),
        )
        written = [
            *_pictures(layers, sections, folder),
            *_pictures([pair.here for pair in sides], pairs, folder),
        ]
    path = folder / "report.html"
    write_text(path, page)
    return [path, *written]


def _layer(layer: TunedLayer) -> LayerSection:
    return layer_section(layer, [*result_charts(layer), *search_charts(layer)])


def _sides(sides: Sides) -> SidesSection:
    return compare_section(sides, list(compare_charts(sides)))


def _pictures(
    layers: Iterable[TunedLayer], sections: Iterable[LayerSection | SidesSection], folder: Path
) -> Iterator[Path]:
    """Write the PNG files of each layer's section; yield their paths."""
    for number, (layer, section) in enumerate(zip(layers, sections, strict=True), 1):
        slug = _slug(number, layer)
        for picture in section.pictures:
            path = folder / f"{slug}-{picture.slug}.png"
            path.write_bytes(picture.png())
            yield path


def _title(layers: Sequence[TunedLayer]) -> str:
    models = sorted({layer.model for layer in layers})
    devices = sorted({layer.device.name for layer in layers})
    return f"{', '.join(models) or 'Nothing'} on {', '.join(devices) or 'no device'}"


def _slug(number: int, layer: TunedLayer) -> str:
    name = re.sub(r"[^A-Za-z0-9]+", "-", layer.model.rsplit("/", maxsplit=1)[-1]).strip("-")
    return f"{number}-{name[:_MOST_LETTERS].lower() or 'layer'}"
