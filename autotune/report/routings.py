"""A table of routings: what a config costs that was tuned under another one."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from statistics import fmean

from autotune.kernels.device import Device
from autotune.kernels.problem import Problem
from autotune.report import html
from autotune.report.layers import Layer
from autotune.tune.across import Crossing, crossings_of

_EXPLAINED = (
    "How much slower a layer is whose configs were tuned under one routing and met another, "
    "against the configs tuned under that one, both measured side by side: mean over batch sizes, "
    "and the worst. A dash: not measured."
)


def routings_section(layers: Iterable[Layer]) -> str:
    """Empty where no layer was tuned under two routings."""
    by_batch: dict[tuple[str, str], dict[tuple[Problem, Device], Crossing]] = {}
    for layer in layers:
        for point in layer.points:
            size = (replace(point.problem, routing="", ep_rank=0), layer.device)
            for crossing in crossings_of(point.study.attrs):
                cell = by_batch.setdefault((crossing.tuned, crossing.measured), {})
                before = cell.get(size, crossing)  # of the two studies' accounts the later one
                cell[size] = min(before, crossing, key=lambda c: c.winner_us)
    if not by_batch:
        return ""
    measured = sorted({name for _, name in by_batch})
    rows = [
        (tuned, *(_cell(list(by_batch.get((tuned, name), {}).values())) for name in measured))
        for tuned in sorted({name for name, _ in by_batch} | set(measured))
    ]
    header = ("tuned under", *(f"measured under {name}" for name in measured))
    return html.section(
        "Across routings", html.paragraph(_EXPLAINED), html.table(header, rows, words=1)
    )


def _cell(crossings: Sequence[Crossing]) -> str:
    if not crossings:
        return "–"
    mean = math.expm1(fmean(math.log1p(crossing.loss) for crossing in crossings))
    worst = max(crossing.loss for crossing in crossings)
    return f"{100 * mean:+.1f} % (worst {100 * worst:+.1f} %)"
