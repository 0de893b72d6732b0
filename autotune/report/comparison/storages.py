"""Two storages side by side."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from autotune.report.html import document
from autotune.report.layers import Layer, Point, same_layer
from autotune.report.style import BLUE, VERMILION, Picture, axes_row, token_axis


@dataclass(frozen=True, slots=True)
class Sides:
    """One problem in both storages; devices and versions may differ."""

    here: Layer
    there: Layer

    @property
    def common(self) -> list[tuple[Point, Point]]:
        """Batch sizes that were measured in both."""
        theirs = {point.tokens: point for point in self.there.points}
        pairs = ((ours, theirs.get(ours.tokens)) for ours in self.here.points)
        return [
            (ours, other)
            for ours, other in pairs
            if other is not None and ours.best_us is not None and other.best_us is not None
        ]


def sides_of(here: Iterable[Layer], there: Sequence[Layer]) -> list[Sides]:
    """Every pair of layers of one problem."""
    return [
        Sides(ours, theirs)
        for ours in here
        for theirs in there
        if same_layer(ours.points[0].study)[0] == same_layer(theirs.points[0].study)[0]
    ]


def compare_section(sides: Sides, pictures: Sequence[Picture]) -> str:
    return document.section(
        f"Side by side: {sides.here.model}",
        document.pairs([("here", _name(sides.here)), ("there", _name(sides.there))]),
        *(document.figure(picture) for picture in pictures),
        document.table(
            ("batch size", "µs here", "µs there", "there over here", "config here", "config there"),
            list(_rows(sides)),
            words=0,
        ),
    )


def compare_charts(sides: Sides) -> Iterator[Picture]:
    """Nothing where no batch size is in both."""
    common = sides.common
    if not common:
        return
    figure, [times, ratios] = axes_row(2, height=3.4)
    tokens = [ours.tokens for ours, _ in common]
    here: Any = [ours.best_us for ours, _ in common]
    there: Any = [theirs.best_us for _, theirs in common]
    times.plot(tokens, here, "o-", color=BLUE, label="here")
    times.plot(tokens, there, "s--", color=VERMILION, label="there")
    times.set_yscale("log")
    times.set_ylabel("µs")
    times.legend()
    shares = [_ratio(ours, theirs) for ours, theirs in common]
    ratios.plot(tokens, shares, "D-", color="black")
    ratios.axhline(1, color="black", linewidth=0.9)
    ratios.set_ylabel("time there over time here")
    for axes in (times, ratios):
        token_axis(axes, tokens)
    yield Picture(
        "compare",
        "Tuned times",
        f"Here: {_name(sides.here)}. There: {_name(sides.there)}. On the right, above 1 is "
        "faster here.",
        figure,
    )


def _name(layer: Layer) -> str:
    device = layer.device
    return f"{device.kind.value}: {device.name}, Triton {device.triton_version}"


def _ratio(ours: Point, theirs: Point) -> float:
    assert ours.best_us is not None
    assert theirs.best_us is not None
    return theirs.best_us / ours.best_us


def _rows(sides: Sides) -> Iterator[Sequence[object]]:
    for ours, theirs in sides.common:
        yield (
            ours.tokens,
            f"{ours.best_us:.1f}",
            f"{theirs.best_us:.1f}",
            f"{_ratio(ours, theirs):.3f}",
            _config(ours),
            _config(theirs),
        )


def _config(point: Point) -> str:
    """Of the first engine that has a winner: engines mostly agree on it."""
    return next((str(result.winner.config) for result in point.results if result.winner), "")
