"""Charts of how a run got there: convergence, outcomes, time, and what mattered."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
from optuna.importance import PedAnovaImportanceEvaluator
from optuna.trial import FrozenTrial, create_trial

from autotune.report.layers import TunedLayer, TunedSize
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
    legend_above,
)
from autotune.spec.arrays import Floats
from autotune.spec.device import DeviceKind
from autotune.studies.outcome import Outcome
from autotune.studies.study_record import StoredStudy
from autotune.studies.trial_record import MEASURED, PHASES_S, outcome_counts

_SEQUENTIAL = "cividis"
"""Made for colour-blind readers; its lightness alone tells the order."""
_WORST = 2.0
"""Slices end at so many times the best: what is slower teaches nothing here."""
_COLUMNS = 3
_FEWEST = 12
"""Measured trials from which importances are shown: of fewer the good ones are a handful."""
_GOOD = 0.25
"""Share of a study's trials that counts as good. A search measures mostly good configs, and 20 of
them: the evaluator's own tenth would be two."""
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
_ON_DEVICE = PHASES_S[:3]
"""Phases that are part of a trial's duration: what is compiled ahead goes on beside others."""


def spent_on(trials: Iterable[FrozenTrial]) -> dict[str, float]:
    """Add up the seconds of trials that have ended, from ask to tell; trials side by side count
    each. ``rest_s`` is loading and waiting; all of an interrupted trial, and measuring where trials
    do not say ``measure_s``, which is younger than ``compile_s``."""
    spent = dict.fromkeys((*_ON_DEVICE, "rest_s"), 0.0)
    for trial in trials:
        if trial.duration is None:
            continue
        left = trial.duration.total_seconds()
        for name in _ON_DEVICE:
            seconds = min(float(trial.user_attrs.get(name, 0.0)), left)
            spent[name] += seconds
            left -= seconds
        spent["rest_s"] += left
    return spent


def search_charts(layer: TunedLayer) -> Iterator[Picture]:
    """Yield the charts for which the layer has trials."""
    has_complete = any(size.complete for size in layer.sizes)
    if has_complete:
        yield convergence(layer)
    yield outcomes(layer)
    yield time_spent(layer)
    by_size = {size.tokens: shares for size in layer.sizes if (shares := importances(size.study))}
    if by_size:
        yield importance(by_size)
    if has_complete:
        yield slices(layer)


def convergence(layer: TunedLayer) -> Picture:
    figure, [by_count, by_second] = axes_row(2)
    curves = [_curve(size) for size in layer.sizes if size.complete]
    for count, seconds, regret in curves:
        by_count.step(count, regret, where="post", color=SKY, linewidth=0.8)
        by_second.step(seconds, regret, where="post", color=SKY, linewidth=0.8)
    longest = max(len(regret) for _, _, regret in curves)
    held = np.array([np.pad(r, (0, longest - len(r)), mode="edge") for _, _, r in curves])
    by_count.step(
        range(1, longest + 1), np.median(held, axis=0), where="post", color=OURS, label="median"
    )
    legend_above(by_count)
    by_count.set_xlabel(f"{layer.device.kind.noun}s")
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


def outcomes(layer: TunedLayer) -> Picture:
    counts = [outcome_counts(size.study.trials) for size in layer.sizes]
    words = [w for w in _OUTCOME_COLOURS if any(w in count for count in counts)]
    words += sorted({w for count in counts for w in count} - set(words))
    bars = []
    for word in words:
        heights = np.array([count.get(word, 0) for count in counts], dtype=float)
        colour, hatch = _OUTCOME_COLOURS.get(word, GREY), "//" if word in _HATCHED else None
        bars.append(_Bars(word, colour, heights, hatch))
    return Picture(
        "outcomes",
        "Where the trials went",
        "What became of every trial. A study ends early when its sampler expects nothing more.",
        _stacked(layer, bars, "", "trials"),
    )


def time_spent(layer: TunedLayer) -> Picture:
    spent = [spent_on(size.study.trials) for size in layer.sizes]
    compiled, verified, measured, rest = np.array([list(one.values()) for one in spent]).T
    bars = [_Bars("compile", ORANGE, compiled)]
    if verified.any():
        bars.append(_Bars("verify", GREEN, verified))
    timing = "model" if layer.device.kind is DeviceKind.ESTIMATE else "measure"
    if measured.any():
        bars += [_Bars(timing, BLUE, measured), _Bars("load, wait", GREY, rest)]
    else:
        bars.append(_Bars(f"verify, {timing}, wait", BLUE, rest))
    return Picture(
        "time",
        "What the time was spent on",
        "Seconds from ask to tell, added over all trials. Several are asked ahead and wait while "
        "another is timed, so this is more than the run took; what a pool compiled ahead is in "
        "no bar. A config that was compiled for one batch size is loaded by the others.",
        _stacked(layer, bars, " s", "seconds"),
    )


@dataclass(frozen=True, slots=True)
class _Bars:
    """One layer of a stack: a height for each batch size."""

    label: str
    colour: str
    heights: Floats
    hatch: str | None = None


def _stacked(layer: TunedLayer, bars: Sequence[_Bars], unit: str, name: str) -> Any:
    figure, [axes] = axes_row(height=2.9)
    places = range(len(layer.sizes))
    below = np.zeros(len(places))
    for bar in bars:
        axes.bar(
            places,
            bar.heights,
            bottom=below,
            color=bar.colour,
            hatch=bar.hatch,
            edgecolor="white",
            label=f"{bar.label} ({bar.heights.sum():.0f}{unit})",
        )
        below += bar.heights
    category_axis(axes, layer.tokens)
    axes.set_xlabel("batch size (tokens)")
    axes.set_ylabel(name)
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def _curve(size: TunedSize) -> tuple[range, Floats, Floats]:
    """Return measurements and seconds so far, and by how many percent the best was yet to fall."""
    trials, times = size.study.trials, {entry.trial_number: entry for entry in size.study.measured}
    seconds = np.cumsum([t.duration.total_seconds() if t.duration else 0.0 for t in trials])
    measured = [index for index, trial in enumerate(trials) if trial.number in times]
    entries = [times[trials[index].number] for index in measured]
    bests = np.minimum.accumulate([e.geomean_us if e.complete else np.inf for e in entries])
    regret = np.minimum(100 * (bests / bests[-1] - 1), 1e3)
    return range(1, len(entries) + 1), seconds[measured], regret


def importance(by_size: dict[int, dict[str, float]]) -> Picture:
    """Draw one row for each parameter, one column for each batch size."""
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
        "that were timed. The search looks where it expects good configs, so this says what "
        "still mattered there, not over the whole space.",
        figure,
    )


def slices(layer: TunedLayer) -> Picture:
    """Draw one panel for each parameter that varies: time over the study's best, by value."""
    rows = [
        (size.tokens, entry.config.as_keys(), entry.geomean_us / best)
        for size in layer.sizes
        if (best := min((e.geomean_us for e in size.complete), default=0.0))
        for entry in size.study.measured
    ]
    names = dict.fromkeys(key for _, keys, _ in rows for key in keys)
    found = {name: sorted({keys[name] for _, keys, _ in rows if name in keys}) for name in names}
    values = {name: several for name, several in found.items() if len(several) > 1}
    lines = -(-max(len(values), 1) // _COLUMNS)
    figure, panels = axes_row(_COLUMNS, rows=lines, height=2.3 * lines + 0.2)
    least, most = min(layer.tokens), max(*layer.tokens, min(layer.tokens) + 1)
    rng = np.random.default_rng(0)  # only spreads the dots sideways
    for axes, name in zip(panels, values, strict=False):
        shown = [(t, keys[name], ratio) for t, keys, ratio in rows if name in keys]
        places = np.array([values[name].index(value) for _, value, _ in shown])
        axes.scatter(
            places + rng.uniform(-0.28, 0.28, len(places)),
            [min(ratio, _WORST) for _, _, ratio in shown],
            c=[tokens for tokens, _, _ in shown],
            cmap=_SEQUENTIAL,
            norm="log",
            vmin=least,
            vmax=most,
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
        f"Every complete {layer.device.kind.noun} by the value of each parameter; 1 is the best of "
        f"its batch size, {_WORST:g} stands for that and slower.",
        figure,
    )


def importances(study: StoredStudy) -> dict[str, float]:
    """Return parameter → share of what tells good trials from the rest; they add up to 1.

    Pruned trials count: what they are told is comparable. Empty for studies with fewer than
    ``_FEWEST`` measured trials.
    """
    measured = [t for t in study.trials if t.state in MEASURED and t.value is not None]
    if len(measured) < _FEWEST:
        return {}
    copy = optuna.create_study(direction="minimize")
    copy.add_trials(
        create_trial(params=t.params, distributions=t.distributions, value=t.value)
        for t in measured  # the evaluator looks at complete trials alone
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        evaluator = PedAnovaImportanceEvaluator(target_quantile=_GOOD)
        return dict(optuna.importance.get_param_importances(copy, evaluator=evaluator))
