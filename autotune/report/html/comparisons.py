"""Sections that compare: two storages side by side, and configs under routings not their own."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

from autotune.report.html.templating import Table
from autotune.report.layers import TunedLayer, TunedSize, same_layer
from autotune.report.style import (
    BLUE,
    VERMILION,
    Picture,
    axes_row,
    legend_above,
    log_scale,
    token_axis,
)
from autotune.routing.trace import RECORDED
from autotune.spec.device import Device
from autotune.spec.problem import Problem
from autotune.tuning.cross_routing import Crossing, crossings_of
from autotune.tuning.stored_results import recording_folder

Cells = Mapping[tuple[str, str], Collection[Crossing]]
"""(tuned under, measured under) → one crossing for each batch size and device."""


@dataclass(frozen=True, slots=True)
class Sides:
    """One problem in both storages; devices and versions may differ."""

    here: TunedLayer
    there: TunedLayer
    names: tuple[str, str]
    """What the two storages are called."""

    @property
    def common(self) -> list[tuple[TunedSize, TunedSize, float]]:
        """Batch sizes that were measured in both, and the time there over the time here."""
        theirs = {size.tokens: size for size in self.there.sizes}
        pairs = ((ours, theirs.get(ours.tokens)) for ours in self.here.sizes)
        return [
            (ours, other, other.best_us / ours.best_us)
            for ours, other in pairs
            if other is not None and ours.best_us is not None and other.best_us is not None
        ]


def sides_of(
    here: Iterable[TunedLayer], there: Sequence[TunedLayer], names: tuple[str, str]
) -> list[Sides]:
    """Return every pair of layers of one problem."""
    return [
        Sides(ours, theirs, names)
        for ours in here
        for theirs in there
        if same_layer(ours.sizes[0].study)[0] == same_layer(theirs.sizes[0].study)[0]
    ]


@dataclass(frozen=True, slots=True)
class SidesSection:
    """Two storages side by side, for the page."""

    names: tuple[str, str]
    titles: Sequence[tuple[str, str]]
    """Each storage's name with what it has: the layer and its device."""
    pictures: Sequence[Picture]
    table: Table


def compare_section(sides: Sides, pictures: Sequence[Picture]) -> SidesSection:
    """Collect what the section shows."""
    one, other = sides.names
    configs = f"config {one}", f"config {other}"
    header = ("batch size", f"µs {one}", f"µs {other}", f"{other} over {one}", *configs)
    titles = [(one, sides.here.title), (other, sides.there.title)]
    table = Table(header, list(_rows(sides)), texts=configs)
    return SidesSection(sides.names, titles, pictures, table)


def compare_charts(sides: Sides) -> Iterator[Picture]:
    """Yield the chart of both storages' times; nothing where no batch size is in both."""
    common = sides.common
    if not common:
        return
    one, other = sides.names
    figure, [times, ratios] = axes_row(2, height=3.6)
    tokens = [ours.tokens for ours, _, _ in common]
    here: Any = [ours.best_us for ours, _, _ in common]
    there: Any = [theirs.best_us for _, theirs, _ in common]
    times.plot(tokens, here, "o-", color=BLUE, label=one, clip_on=False)
    times.plot(tokens, there, "s--", color=VERMILION, label=other, clip_on=False)
    log_scale(times)
    times.set_ylabel("µs")
    legend_above(times, 1)
    ratios.plot(tokens, [ratio for _, _, ratio in common], "D-", color="black", clip_on=False)
    ratios.axhline(1, color="black", linewidth=0.9)
    ratios.set_ylabel("ratio of the times")
    for axes in (times, ratios):
        token_axis(axes, tokens)
    yield Picture(
        "compare",
        "Tuned times",
        f"{one}: {sides.here.title}. {other}: {sides.there.title}. On the right the time of "
        f"{other} over that of {one}; above 1, {one} is faster.",
        figure,
    )


def _rows(sides: Sides) -> Iterator[Sequence[object]]:
    for ours, theirs, ratio in sides.common:
        yield (
            ours.tokens,
            f"{ours.best_us:.1f}",
            f"{theirs.best_us:.1f}",
            f"{ratio:.3f}",
            _config(ours),
            _config(theirs),
        )


def _config(size: TunedSize) -> str:
    """Return the winner for the first engine that has one: engines mostly agree on it."""
    return next((str(result.winner.config) for result in size.results if result.winner), "")


@dataclass(frozen=True, slots=True)
class RoutingsSection:
    """How configs did under routings that are not their own, for the page."""

    table: Table
    unfilled: Sequence[tuple[str, str]]
    """Routings under which not everything is timed, with the folder of each recording."""


def routings_section(layers: Iterable[TunedLayer]) -> RoutingsSection | None:
    """Collect what the section shows; None where no layer was tuned under two routings."""
    sizes = [(layer.device, size) for layer in layers for size in layer.sizes]
    cells = _cells(sizes)
    if not cells:
        return None
    names = sorted({name for pair in cells for name in pair})
    measured = [name for name in names if "," not in name]
    rows = [(tuned, *(_cell(cells.get((tuned, name), ())) for name in measured)) for tuned in names]
    header = ("tuned under", *(f"timed under {name}" for name in measured))
    folders = {size.problem.routing: recording_folder(size.study) for _, size in sizes}
    unfilled = [
        (name, folders.get(name) or "D")
        for name in measured
        if name.startswith(RECORDED) and any((n, name) not in cells for n in names if n != name)
    ]
    return RoutingsSection(Table(header, rows, texts=header[:1]), unfilled)


def _cells(sizes: Iterable[tuple[Device, TunedSize]]) -> Cells:
    """Collect how configs did under other routings. Two studies may have measured the same; the
    faster measurement counts."""
    found: dict[tuple[str, str], dict[tuple[Problem, Device], Crossing]] = {}
    for device, size in sizes:
        problem = (replace(size.problem, routing="", ep_rank=0), device)
        for crossing in crossings_of(size.study.attrs):
            cell = found.setdefault((crossing.tuned, crossing.measured), {})
            before = cell.get(problem, crossing)
            cell[problem] = min(before, crossing, key=lambda c: c.winner_us)
    return {pair: cell.values() for pair, cell in found.items()}


def _cell(crossings: Collection[Crossing]) -> str:
    if not crossings:
        return "–"
    mean = math.expm1(fmean(math.log1p(crossing.loss) for crossing in crossings))
    worst = max(crossing.loss for crossing in crossings)
    return f"{100 * mean:+.1f} % (worst {100 * worst:+.1f} %)"
