"""Charts of what matters: importance of each parameter, and slices through the measurements."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from matplotlib.colors import LogNorm

from autotune.report.html.importance import importances
from autotune.report.layers import Layer
from autotune.report.style import Picture, axes_row, category_axis

_SEQUENTIAL = "cividis"
"""Made for colour-blind readers; its lightness alone tells the order."""
_WORST = 2.0
"""Slices end at so many times the best: what is slower teaches nothing here."""
_COLUMNS = 3


def importance_charts(layer: Layer) -> Iterator[Picture]:
    """Those for which there are enough trials."""
    by_size = {point.tokens: importances(point.study) for point in layer.points}
    by_size = {tokens: shares for tokens, shares in by_size.items() if shares}
    if by_size:
        yield importance(by_size)
    if any(point.complete for point in layer.points):
        yield slices(layer)


def importance(by_size: dict[int, dict[str, float]]) -> Picture:
    """One row for each parameter, one column for each batch size."""
    names = list(dict.fromkeys(name for shares in by_size.values() for name in shares))
    names.sort(key=lambda name: -sum(shares.get(name, 0.0) for shares in by_size.values()))
    grid = np.array([[shares.get(name, 0.0) for shares in by_size.values()] for name in names])
    figure, [axes] = axes_row(height=1.1 + 0.33 * len(names))
    axes.imshow(grid, aspect="auto", cmap="Blues", vmin=0, vmax=max(0.6, float(grid.max())))
    for row, column in np.ndindex(grid.shape):
        share = grid[row, column]
        colour = "white" if share > 0.4 else "black"
        axes.text(column, row, f"{share:.0%}", ha="center", va="center", color=colour, fontsize=7.5)
    category_axis(axes, by_size)
    axes.set_yticks(range(len(names)), names)
    axes.grid(visible=False)
    axes.set_xlabel("batch size (tokens)")
    return Picture(
        "importance",
        "Which parameter decides",
        "PED-ANOVA: how far each parameter's values among a study's best quarter differ from all "
        "that were measured. The search looks where it expects good configs, so this says what "
        "still mattered there, not over the whole space.",
        figure,
    )


def slices(layer: Layer) -> Picture:
    """One panel for each parameter that varies: time over the study's best, by value."""
    rows = [
        (point.tokens, entry.config.as_keys(), entry.geomean_us / best)
        for point in layer.points
        if (best := min((e.geomean_us for e in point.complete), default=0.0))
        for entry in point.study.measured
    ]
    values: dict[str, list[int]] = {}
    for name in dict.fromkeys(key for _, keys, _ in rows for key in keys):
        found = sorted({keys[name] for _, keys, _ in rows if name in keys})
        if len(found) > 1:
            values[name] = found
    lines = -(-max(len(values), 1) // _COLUMNS)
    figure, panels = axes_row(_COLUMNS, rows=lines, height=2.3 * lines + 0.2)
    norm = LogNorm(min(layer.tokens), max(*layer.tokens, min(layer.tokens) + 1))
    rng = np.random.default_rng(0)  # only spreads the dots sideways
    for axes, name in zip(panels, values, strict=False):
        shown = [(t, keys[name], ratio) for t, keys, ratio in rows if name in keys]
        places = np.array([values[name].index(value) for _, value, _ in shown])
        axes.scatter(
            places + rng.uniform(-0.28, 0.28, len(places)),
            [min(ratio, _WORST) for _, _, ratio in shown],
            c=[tokens for tokens, _, _ in shown],
            cmap=_SEQUENTIAL,
            norm=norm,
            s=9,
            linewidths=0,
            rasterized=True,  # hundreds of dots are smaller as pixels
        )
        axes.set_title(name)
        category_axis(axes, values[name])
        axes.set_ylim(0.97, _WORST + 0.03)
    for axes in panels[len(values) :]:
        axes.set_visible(False)
    for axes in panels[::_COLUMNS]:
        axes.set_ylabel("time over the best")
    if len(set(layer.tokens)) > 1:
        mapped = next(axes.collections[0] for axes in panels if axes.collections)
        figure.colorbar(mapped, ax=panels, label="batch size (tokens)", format="%d", aspect=40)
    return Picture(
        "slices",
        "Slices",
        f"Every complete measurement by the value of each parameter; 1 is the best of its batch "
        f"size, {_WORST:g} stands for that and slower.",
        figure,
    )
