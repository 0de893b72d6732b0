"""The picture that a study's best trial carries in the dashboard."""

from __future__ import annotations

from typing import Any

import numpy as np

from autotune.report.dashboard.notes import NotedStudy
from autotune.report.style import BLUE, GREY, OURS, SKY, VERMILION, Picture, axes_row, styled
from autotune.studies.trial_record import fastest_first
from autotune.tuning.study_words import place_words

_SHOWN = 1.3
"""A trial that takes so many times the best's time, or more, is drawn at the edge."""
_EDGE = 1.1
"""The same for finalists, which lie closer."""


def study_png(noted: NotedStudy) -> bytes:
    """Draw every trial with the best so far, and the finalists' samples. Needs a complete trial."""
    best = noted.best_us
    assert best is not None
    with styled():
        figure, [trials, finals] = axes_row(2, height=3.4, layout=None)
        figure.subplots_adjust(left=0.07, right=0.98, top=0.83, bottom=0.15, wspace=0.52)
        _trials(trials, noted, best)
        _finalists(finals, noted)
        title = ", ".join(
            [
                noted.layer,
                f"batch size {noted.key.problem.tokens}",
                place_words(noted.key.device),
            ]
        )
        figure.suptitle(title, fontsize=11)
        return Picture("study", title, "", figure).png()


def _trials(axes: Any, noted: NotedStudy, best: float) -> None:
    top = _SHOWN * best
    numbers = range(1, len(noted.measured) + 1)
    for complete, colour, label in ((True, BLUE, None), (False, GREY, "stopped early")):
        dots = [
            (number, min(entry.geomean_us, top))
            for number, entry in zip(numbers, noted.measured, strict=True)
            if entry.complete is complete
        ]
        if dots:
            axes.scatter(*zip(*dots, strict=True), c=colour, s=14, zorder=3, label=label)
    times = [entry.geomean_us if entry.complete else top for entry in noted.measured]
    bests = np.minimum.accumulate(np.minimum(times, top))
    axes.step(numbers, bests, where="post", color=SKY, label="best so far")
    if noted.default_us is not None:
        axes.axhline(noted.default_us, color=VERMILION, linestyle="--", label="fastest default")
    axes.set_ylim(top=top * 1.02)
    axes.locator_params(axis="x", integer=True)
    axes.set_xlabel(noted.key.device.kind.noun)
    axes.set_ylabel("µs")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 0.98), ncols=3, columnspacing=1.2)


def _finalists(axes: Any, noted: NotedStudy) -> None:
    """Draw the samples of the finalists; the best complete trials' where there are none."""
    complete = fastest_first(noted.measured)
    rows: list[Any] = [*noted.finalists] or complete[:5]
    rows = sorted(rows, key=lambda row: -row.geomean_us)
    edge = _EDGE * rows[-1].geomean_us
    right = max(edge, *(max(row.samples_us) for row in rows if row.geomean_us <= edge))
    for place, row in enumerate(rows):
        if row.geomean_us > edge:
            axes.annotate(f"{row.geomean_us:.1f} →", (right, place), ha="right", va="center")
            continue
        samples = row.samples_us
        axes.plot(samples, [place] * len(samples), "|", color=SKY, markersize=9)
        axes.plot([row.geomean_us], [place], "D", color=OURS, markersize=5)
    axes.set_xlim(right=1.005 * right)
    labels = [str(row.config).replace(", down", ",\ndown") for row in rows]
    axes.set_yticks(range(len(rows)), labels, fontsize=7.5)
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.set_title("Finalists" if noted.finalists else "Best so far")
    axes.set_xlabel("µs: samples and their mean")
