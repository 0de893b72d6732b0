"""Charts of implementations side by side: time and speed-up by batch size."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle

from matplotlib.axes import Axes

from autotune.report.style import (
    BLACK,
    BLUE,
    ENGINE_COLOURS,
    ENGINE_MARKERS,
    GREEN,
    GREY,
    PURPLE,
    SKY,
    Picture,
    axes_row,
    token_axis,
)
from autotune.tune.comparison.providers import Comparison
from autotune.tune.comparison.variants import Line

_COLOURS = {
    "autotune": (BLUE, SKY, BLACK),
    "sglang": (ENGINE_COLOURS["sglang"],),
    "vllm": (ENGINE_COLOURS["vllm"],),
    "torch": (GREY,),
    "torch-grouped": (GREEN,),
    "torch-compile": (PURPLE,),
}
_MARKERS = ENGINE_MARKERS | {"autotune": "o", "torch": "v", "torch-grouped": "D"}
_DASHES = ("-", "--", ":", "-.")
_WIDE = 4.0
"""Ratios that differ by more are drawn on a logarithmic scale."""
PLOT_NAME = "fused-moe-performance"
"""As the engines' own scripts call theirs."""

Times = Mapping[Line, Mapping[int, tuple[float, float, float]]]
"""Line → batch size → (middle, low, high) µs."""


def times_of(comparison: Comparison) -> Times:
    """What was measured; lines without a time are left out."""
    found: dict[Line, dict[int, tuple[float, float, float]]] = {}
    for line in comparison.lines:
        own = (point for point in comparison.points if point.line == line)
        times = {p.tokens: p.quantiles_us for p in own if p.quantiles_us is not None}
        if times:
            found[line] = times
    return found


def baseline_of(times: Times) -> Line | None:
    """What speed-ups are over: an engine as it is, else an engine's default in our kernels, else
    the first line. None where nothing was measured."""
    own = [line for line in times if line.provider in ENGINE_COLOURS and line.source is None]
    defaults = [line for line in times if line.name.endswith("default")]
    return next(iter([*own, *defaults, *times]), None)


def provider_charts(comparison: Comparison) -> Iterator[Picture]:
    """Nothing where nothing was measured; no speed-up where there is one line alone."""
    times = times_of(comparison)
    baseline = baseline_of(times)
    if baseline is None:
        return
    yield _time_chart(comparison, times)
    if len(times) > 1:
        yield _speedup_chart(times, baseline)


def _time_chart(comparison: Comparison, times: Times) -> Picture:
    figure, [axes] = axes_row(height=4.6)
    for line, (colour, dash, marker) in _looks(times):
        sizes = sorted(times[line])
        middle, low, high = zip(*(times[line][size] for size in sizes), strict=True)
        axes.plot(sizes, middle, dash, marker=marker, color=colour, label=line.name)
        axes.fill_between(sizes, low, high, color=colour, alpha=0.18, linewidth=0)
    _log_scale(axes)
    axes.set_ylabel("µs")
    _finish(axes, times)
    where = comparison.device.name if comparison.device else "the CPU: it says nothing of a GPU"
    return Picture(
        PLOT_NAME,
        "Time of one layer",
        f"Median, and the band from the 20 % to the 80 % quantile, on {where}. Lower is better.",
        figure,
    )


def _speedup_chart(times: Times, baseline: Line) -> Picture:
    figure, [axes] = axes_row(height=4.2)
    base, every = times[baseline], [1.0]
    for line, (colour, dash, marker) in _looks(times):
        sizes = sorted(set(times[line]) & set(base))
        ratios = [base[size][0] / times[line][size][0] for size in sizes]
        every += ratios
        axes.plot(sizes, ratios, dash, marker=marker, color=colour, label=line.name)
    axes.axhline(1, color="black", linewidth=0.9)
    if max(every) > _WIDE * min(every):
        _log_scale(axes)
    axes.set_ylabel(f"times as fast as {baseline.name}")
    _finish(axes, times)
    return Picture(
        f"{PLOT_NAME}-speedup",
        f"Speed-up over {baseline.name}",
        f"Median time of {baseline.name} over that of each line; above 1 is faster.",
        figure,
    )


def _looks(times: Times) -> Iterator[tuple[Line, tuple[str, str, str]]]:
    """Colour by provider; several lines of one differ in dash, too."""
    taken: dict[str, Iterator[tuple[str, str]]] = {}
    for line in times:
        colours = _COLOURS[line.provider]
        pairs = cycle([(colour, dash) for dash in _DASHES for colour in colours])
        colour, dash = next(taken.setdefault(line.provider, pairs))
        yield line, (colour, dash, _MARKERS.get(line.provider, "x"))


def _log_scale(axes: Axes) -> None:
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.yaxis.set_minor_formatter(lambda value, _: f"{value:g}" if f"{value:e}"[0] in "25" else "")
    axes.tick_params(axis="y", which="minor", labelsize=7.5)


def _finish(axes: Axes, times: Times) -> None:
    tokens = {size for by_size in times.values() for size in by_size}
    token_axis(axes, tokens)
    names: Sequence[str] = [line.name for line in times]
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=min(len(names), 3))
