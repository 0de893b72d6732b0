"""One style for every picture: colour-blind safe, readable in print, the same everywhere.

matplotlib is imported here alone: importing this file raises MissingExtraError where it is not
installed.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal
from xml.etree import ElementTree

from autotune.extras import needed

with needed("report", "drawing"):
    import matplotlib
    from matplotlib.axes import Axes
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import FixedLocator, NullLocator

BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
YELLOW, BLUE, VERMILION, PURPLE = "#F0E442", "#0072B2", "#D55E00", "#CC79A7"
"""The palette of Okabe and Ito: distinct to every kind of colour vision, and in grey."""
GREY = "#8A8A8A"

OURS = BLUE
ENGINE_COLOURS = {"sglang": VERMILION, "vllm": ORANGE}
ENGINE_MARKERS = {"sglang": "s", "vllm": "^"}

_RC: Any = {
    "font.size": 9.5,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.7,
    "lines.linewidth": 1.8,
    "lines.markersize": 4.5,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "svg.fonttype": "path",
    "svg.hashsalt": "autotune",
}
IMAGES = ("png", "svg", "pdf")
_PNG_DPI = 130
_TIP_POINTS = "8"
"""Radius, in points, within which a marker says its words: it is smaller than a pointer is sure."""
_SVG = "http://www.w3.org/2000/svg"
ElementTree.register_namespace("", _SVG)
ElementTree.register_namespace("xlink", "http://www.w3.org/1999/xlink")
_CROWDED = 10
"""Batch sizes from which their labels are turned."""


@dataclass(frozen=True, slots=True)
class Picture:
    """One chart: ``slug`` names its file, ``caption`` says what it shows and how to read it."""

    slug: str
    title: str
    caption: str
    figure: Figure
    tips: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Group of a line in the figure (its ``gid``) → what each of its markers says."""

    def png(self) -> bytes:
        return self.image("png")

    def image(self, kind: str) -> bytes:
        """Return the bytes of a file of one of ``IMAGES``."""
        buffer = io.BytesIO()
        self.figure.savefig(buffer, format=kind, dpi=_PNG_DPI)
        return buffer.getvalue()

    def data_uri(self) -> str:
        """Return an SVG for an ``img``: sharp in print, and closed in itself."""
        buffer = io.BytesIO()
        self.figure.savefig(buffer, format="svg", metadata={"Date": None})
        return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")

    def inline_svg(self) -> str:
        """Return an SVG for a page's own text, where markers say their words under the pointer."""
        buffer = io.BytesIO()
        self.figure.savefig(buffer, format="svg", metadata={"Date": None})
        root = ElementTree.fromstring(buffer.getvalue())
        root.set("role", "img")
        root.set("aria-label", f"{self.title}: {self.caption}")
        groups = root.findall(f".//{{{_SVG}}}g[@id]")
        for group in groups:
            words = self.tips.get(group.attrib.pop("id"), ())  # ids are a page's, not a picture's
            for marker, tip in zip(list(group.iter(f"{{{_SVG}}}use")), words, strict=False):
                place = {"cx": marker.get("x", ""), "cy": marker.get("y", "")}
                look = {"r": _TIP_POINTS, "fill": "transparent"}
                spot = ElementTree.SubElement(group, f"{{{_SVG}}}circle", place | look)
                ElementTree.SubElement(spot, f"{{{_SVG}}}title").text = tip
        return ElementTree.tostring(root, encoding="unicode")


@contextmanager
def styled() -> Iterator[None]:
    """Give the style to everything that is drawn or saved within."""
    with matplotlib.rc_context(_RC):
        yield


def axes_row(
    columns: int = 1,
    *,
    rows: int = 1,
    height: float = 3.4,
    layout: Literal["constrained"] | None = "constrained",
) -> tuple[Figure, list[Axes]]:
    """Make a figure as wide as the page, and its axes row by row. Needs no window system.

    ``layout`` None is for callers that set the margins: finding them takes half of drawing.
    """
    figure = Figure(figsize=(9.2, height), layout=layout)
    FigureCanvasAgg(figure)
    return figure, list(figure.subplots(rows, columns, squeeze=False).flat)


def token_axis(axes: Axes, tokens: Iterable[int]) -> None:
    """Put batch sizes on a logarithmic x axis, each with its tick."""
    sizes = sorted(set(tokens))
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_locator(FixedLocator(sizes))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticklabels([str(size) for size in sizes], fontsize=8)
    if len(sizes) > _CROWDED:
        axes.tick_params(axis="x", rotation=90)
    axes.set_xlabel("batch size (tokens)")


def legend_above(axes: Axes, columns: int = 4) -> None:
    """Put the legend above the axes, where no data is."""
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=columns, borderaxespad=0.2)


def log_scale(axes: Axes) -> None:
    """Make the y axis logarithmic, with plain numbers at its ticks; of the minor ones 2 and 5."""
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.yaxis.set_minor_formatter(lambda value, _: f"{value:g}" if f"{value:e}"[0] in "25" else "")
    axes.tick_params(axis="y", which="minor", labelsize=7.5)


def category_axis(axes: Axes, labels: Iterable[object]) -> None:
    """Put one tick for each label on the x axis, at 0, 1, 2 …"""
    words = [str(label) for label in labels]
    axes.set_xticks(range(len(words)), words, fontsize=8)
    if len(words) > _CROWDED:
        axes.tick_params(axis="x", rotation=90)
    axes.grid(visible=False, axis="x")
