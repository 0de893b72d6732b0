"""A table of routings: what a config costs that was tuned under another one."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from statistics import fmean

from autotune.report.html import document
from autotune.report.layers import Layer, Point
from autotune.routing.trace import RECORDED
from autotune.spec.device import Device
from autotune.spec.problem import Problem
from autotune.tune.cross_routing import Crossing, crossings_of
from autotune.tune.stored_results import settings_of

_EXPLAINED = (
    "How much slower a layer is whose configs were tuned under one routing and met another, "
    "against the configs tuned under that one, both measured side by side: mean over batch sizes, "
    "and the worst. A dash: not measured."
)
_FILLED = (
    "Under {name} not everything is measured: a run that was not given the recording could not. "
    "Run again as it was tuned, with --topk-ids-dir {folder}: that fills its column."
)


Cells = Mapping[tuple[str, str], Collection[Crossing]]
"""(tuned under, measured under) → one crossing for each batch size and device."""


def routings_section(layers: Iterable[Layer]) -> str:
    """Empty where no layer was tuned under two routings."""
    points = [(layer.device, point) for layer in layers for point in layer.points]
    cells = _cells(points)
    if not cells:
        return ""
    names = sorted({name for pair in cells for name in pair})
    measured = [name for name in names if "," not in name]
    rows = [(tuned, *(_cell(cells.get((tuned, name), ())) for name in measured)) for tuned in names]
    header = ("tuned under", *(f"measured under {name}" for name in measured))
    folders = {
        point.problem.routing: settings_of(point.study).model.topk_ids_dir for _, point in points
    }
    return document.section(
        "Across routings",
        document.paragraph(_EXPLAINED),
        document.table(header, rows, words=1),
        *(
            document.paragraph(_FILLED.format(name=name, folder=folders.get(name) or "D"))
            for name in measured
            if name.startswith(RECORDED) and any((n, name) not in cells for n in names if n != name)
        ),
    )


def _cells(points: Iterable[tuple[Device, Point]]) -> Cells:
    """Of two studies' accounts of one crossing the faster."""
    found: dict[tuple[str, str], dict[tuple[Problem, Device], Crossing]] = {}
    for device, point in points:
        size = (replace(point.problem, routing="", ep_rank=0), device)
        for crossing in crossings_of(point.study.attrs):
            cell = found.setdefault((crossing.tuned, crossing.measured), {})
            before = cell.get(size, crossing)
            cell[size] = min(before, crossing, key=lambda c: c.winner_us)
    return {pair: cell.values() for pair, cell in found.items()}


def _cell(crossings: Collection[Crossing]) -> str:
    if not crossings:
        return "–"
    mean = math.expm1(fmean(math.log1p(crossing.loss) for crossing in crossings))
    worst = max(crossing.loss for crossing in crossings)
    return f"{100 * mean:+.1f} % (worst {100 * worst:+.1f} %)"
