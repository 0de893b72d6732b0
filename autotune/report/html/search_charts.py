"""Charts of how a run got there: convergence, outcomes, time spent."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from autotune.report.html.importance_charts import importance_charts
from autotune.report.layers import Layer, Point
from autotune.report.style import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    OURS,
    PURPLE,
    SKY,
    VERMILION,
    YELLOW,
    Picture,
    axes_row,
    category_axis,
)
from autotune.report.time_breakdown import TimeBreakdown, spent_on
from autotune.spec.arrays import Floats
from autotune.studies.outcome import Outcome
from autotune.studies.trial_record import outcome_counts

_OUTCOME_COLOURS = {
    Outcome.OK.value: GREEN,
    Outcome.PRUNED.value: SKY,
    Outcome.INFEASIBLE.value: YELLOW,
    Outcome.COMPILE_ERROR.value: PURPLE,
    Outcome.COMPILE_TIMEOUT.value: PURPLE,
    Outcome.OUT_OF_RESOURCES.value: ORANGE,
    Outcome.WRONG_RESULT.value: VERMILION,
    Outcome.CRASHED.value: "black",
    Outcome.RUN_TIMEOUT.value: BLUE,
}
_HATCHED = (Outcome.COMPILE_TIMEOUT.value, Outcome.CRASHED.value, Outcome.RUN_TIMEOUT.value)


def search_charts(layer: Layer) -> Iterator[Picture]:
    """Those for which the layer has trials."""
    if any(point.complete for point in layer.points):
        yield convergence(layer)
    yield outcomes(layer)
    yield time_spent(layer)
    yield from importance_charts(layer)


def convergence(layer: Layer) -> Picture:
    figure, [by_count, by_second] = axes_row(2)
    curves = [_curve(point) for point in layer.points if point.complete]
    for count, seconds, regret in curves:
        by_count.step(count, regret, where="post", color=SKY, linewidth=0.8)
        by_second.step(seconds, regret, where="post", color=SKY, linewidth=0.8)
    longest = max(len(regret) for _, _, regret in curves)
    held = np.array([np.pad(r, (0, longest - len(r)), mode="edge") for _, _, r in curves])
    by_count.step(
        range(1, longest + 1), np.median(held, axis=0), where="post", color=OURS, label="median"
    )
    by_count.legend(loc="upper right")
    by_count.set_xlabel("measurements")
    by_second.set_xlabel("seconds in trials")
    for axes in (by_count, by_second):
        axes.set_ylabel("% slower than the study's best")
        axes.set_ylim(-0.3, max(5.0, min(20.0, 1.1 * float(held.max()))))
        axes.set_xlim(left=0)
    return Picture(
        "convergence",
        "Convergence",
        "The best so far against the best at the end; a light line for each batch size. The dark "
        "one is their median, ended studies counted with what they ended with.",
        figure,
    )


def outcomes(layer: Layer) -> Picture:
    counts = [outcome_counts(point.study.trials) for point in layer.points]
    words = [w for w in _OUTCOME_COLOURS if any(w in count for count in counts)]
    words += sorted({w for count in counts for w in count} - set(words))
    bars = []
    for word in words:
        heights = np.array([count.get(word, 0) for count in counts], dtype=float)
        colour, hatch = _OUTCOME_COLOURS.get(word, GREY), "//" if word in _HATCHED else None
        bars.append(_Bars(f"{word} ({int(heights.sum())})", colour, heights, hatch))
    return Picture(
        "outcomes",
        "Where the trials went",
        "What became of every trial. A study ends early when its sampler expects nothing more.",
        _stacked(layer, bars, "trials"),
    )


def time_spent(layer: Layer) -> Picture:
    spent = [spent_on(point.study.trials) for point in layer.points]
    bars = [
        _Bars(f"{label} ({seconds.sum():.0f} s)", colour, seconds)
        for label, colour, seconds in _kinds(spent)
    ]
    return Picture(
        "time",
        "What the time was spent on",
        "Seconds from ask to tell, added over all trials. Several are asked ahead and wait while "
        "another is measured, so this is more than the run took; what a pool compiled ahead is in "
        "no bar. A config that was compiled for one batch size is loaded by the others.",
        _stacked(layer, bars, "seconds"),
    )


@dataclass(frozen=True, slots=True)
class _Bars:
    """One layer of a stack: a height for each batch size."""

    label: str
    colour: str
    heights: Floats
    hatch: str | None = None


def _stacked(layer: Layer, bars: Sequence[_Bars], unit: str) -> Any:
    figure, [axes] = axes_row(height=2.9)
    places = range(len(layer.points))
    below = np.zeros(len(places))
    for bar in bars:
        axes.bar(
            places,
            bar.heights,
            bottom=below,
            color=bar.colour,
            hatch=bar.hatch,
            edgecolor="white",
            label=bar.label,
        )
        below += bar.heights
    category_axis(axes, layer.tokens)
    axes.set_xlabel("batch size (tokens)")
    axes.set_ylabel(unit)
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def _kinds(spent: list[TimeBreakdown]) -> Iterator[tuple[str, str, Floats]]:
    measured = np.array([one.measure_s for one in spent])
    rest = np.array([one.rest_s for one in spent])
    verified = np.array([one.verify_s for one in spent])
    yield "compile", ORANGE, np.array([one.compile_s for one in spent])
    if verified.any():
        yield "verify", GREEN, verified
    if measured.any():
        yield "measure", BLUE, measured
        yield "load, wait", GREY, rest
    else:
        yield "verify, measure, wait", BLUE, rest


def _curve(point: Point) -> tuple[list[int], list[float], list[float]]:
    """Measurements and seconds so far, and by how many percent the best was yet to fall."""
    times = {entry.trial_number: entry for entry in point.study.measured}
    best, seconds = float("inf"), 0.0
    count: list[int] = []
    elapsed: list[float] = []
    bests: list[float] = []
    for trial in point.study.trials:
        seconds += trial.duration.total_seconds() if trial.duration else 0.0
        entry = times.get(trial.number)
        if entry is None:
            continue
        best = min(best, entry.geomean_us) if entry.complete else best
        count.append(len(count) + 1)
        elapsed.append(seconds)
        bests.append(best)
    last = bests[-1]
    return count, elapsed, [min(100 * (value / last - 1), 1e3) for value in bests]
