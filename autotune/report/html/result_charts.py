"""Charts of what a run brings: latency, speed-up, share of the roofline."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from matplotlib.axes import Axes

from autotune.backends.hardware import known_spec
from autotune.engines import ENGINES
from autotune.errors import DeviceError
from autotune.report.html.roofline import Roofline, roofline
from autotune.report.html.shipped import shipped_us
from autotune.report.layers import Layer, Point, result_for
from autotune.report.style import (
    ENGINE_COLOURS,
    ENGINE_MARKERS,
    GREEN,
    GREY,
    OURS,
    PURPLE,
    Picture,
    axes_row,
    category_axis,
    token_axis,
)
from autotune.spec.problem import KernelMode

_BAR = 0.38
"""Width of one bar where two engines stand side by side; batch sizes are 1 apart."""


@dataclass(frozen=True, slots=True)
class _Look:
    """Of one line."""

    label: str
    colour: str
    marker: str
    style: str = "-"


def result_charts(layer: Layer) -> Iterator[Picture]:
    """Those for which the layer has figures."""
    measured = [point for point in layer.points if point.best_us is not None]
    if not measured:
        return
    rooflines = rooflines_of(layer)
    yield latency(layer, rooflines)
    if any(speedup_of(point, engine) for point in measured for engine in layer.engines):
        yield speedup(layer)
    if rooflines:
        yield roofline_share(layer, rooflines)


def rooflines_of(layer: Layer) -> dict[int, Roofline]:
    """Batch size → roofline; empty where the device's ceilings are not known, or the recording
    that was tuned on is not at hand."""
    spec = known_spec(layer.device.name)
    if spec is None or not layer.is_drawable:
        return {}
    try:
        return {point.tokens: roofline(point.problem, spec) for point in layer.points}
    except DeviceError:
        return {}


def speedup_of(point: Point, engine: str) -> float | None:
    """Time of the engine's default over that of what is written; None where either is missing."""
    result = result_for(point, engine)
    if result is None or result.winner is None or result.default_us is None:
        return None
    return result.default_us / result.winner.geomean_us


def latency(layer: Layer, rooflines: Mapping[int, Roofline]) -> Picture:
    figure, [axes] = axes_row(height=3.9)
    for engine in layer.engines:
        title, colour = ENGINES[engine].title, ENGINE_COLOURS[engine]
        _line(
            axes,
            _defaults(layer, engine),
            _Look(f"{title} default", colour, ENGINE_MARKERS[engine]),
        )
        _line(axes, shipped_us(layer, engine), _Look(f"{title} shipped file", colour, "x", ":"))
    best = {point.tokens: point.best_us for point in layer.points if point.best_us}
    _line(axes, best, _Look("tuned", OURS, "o"))
    bounds = {tokens: line.bound_us for tokens, line in rooflines.items()}
    _line(axes, bounds, _Look("roofline", GREY, "", "--"))
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.yaxis.set_minor_formatter(lambda value, _: _minor_label(value))
    axes.tick_params(axis="y", which="minor", labelsize=7.5)
    axes.set_ylabel("µs")
    token_axis(axes, layer.tokens)
    axes.legend(loc="upper left")
    is_pair = layer.problem.kernel is KernelMode.SEPARATE
    timed = "both GEMMs, each by itself" if is_pair else "the whole MoE layer"
    return Picture(
        "latency",
        "Time of one layer",
        f"Mean time of {timed}, lower is better. The dashed line is the least that "
        "the GPU's stated bandwidth and FLOP rate allow.",
        figure,
    )


def speedup(layer: Layer) -> Picture:
    figure, [axes] = axes_row(height=3.3)
    engines = layer.engines
    for place, engine in enumerate(engines):
        shift = (place - (len(engines) - 1) / 2) * _BAR
        for position, point in enumerate(layer.points):
            value = speedup_of(point, engine)
            if value is None:
                continue
            label = f"over {ENGINES[engine].title}'s default"
            axes.bar(
                position + shift,
                value - 1,
                _BAR,
                bottom=1,
                color=ENGINE_COLOURS[engine],
                label=label if label not in axes.get_legend_handles_labels()[1] else None,
            )
            axes.annotate(
                f"{value:.2f}",
                (position + shift, max(value, 1)),
                ha="center",
                va="bottom",
                fontsize=7,
                rotation=90 if len(layer.points) > 8 else 0,
                xytext=(0, 2),
                textcoords="offset points",
            )
    axes.axhline(1, color="black", linewidth=0.9)
    axes.margins(y=0.15)
    category_axis(axes, layer.tokens)
    axes.set_xlabel("batch size (tokens)")
    axes.set_ylabel("times as fast")
    axes.legend(loc="upper left")
    return Picture(
        "speedup",
        "Speed-up over the engines' defaults",
        "What the engine would launch without a config file, over what is written; 1 is no gain. "
        "A bar of no height means that the default stays, as nothing beat it by more than the "
        "noise.",
        figure,
    )


def roofline_share(layer: Layer, rooflines: Mapping[int, Roofline]) -> Picture:
    figure, [axes] = axes_row(height=3.0)
    memory, compute = {}, {}
    for point in layer.points:
        line = rooflines[point.tokens]
        if point.best_us:
            memory[point.tokens] = 100 * line.memory_us / point.best_us
            compute[point.tokens] = 100 * line.compute_us / point.best_us
    _line(axes, memory, _Look("of the memory bandwidth", GREEN, "o"))
    _line(axes, compute, _Look("of the matrix units' FLOP rate", PURPLE, "s"))
    axes.axhline(100, color=GREY, linestyle="--", linewidth=1)
    axes.set_ylim(0, max(105.0, *memory.values(), *compute.values()))
    axes.set_ylabel("% of the stated ceiling")
    token_axis(axes, layer.tokens)
    axes.legend(loc="best")
    return Picture(
        "roofline",
        "Share of the roofline",
        "Bytes and FLOPs that the layer cannot do without, per second of the tuned time, against "
        "the datasheet's ceilings (which no kernel reaches whole). Each operand counts once.",
        figure,
    )


def _defaults(layer: Layer, engine: str) -> dict[int, float]:
    results = ((point.tokens, result_for(point, engine)) for point in layer.points)
    return {tokens: r.default_us for tokens, r in results if r is not None and r.default_us}


def _line(axes: Axes, values: Mapping[int, float], look: _Look) -> None:
    if values:
        sizes = sorted(values)
        heights = [values[size] for size in sizes]
        axes.plot(
            sizes, heights, look.style, marker=look.marker, color=look.colour, label=look.label
        )


def _minor_label(value: float) -> str:
    """Of the minor ticks of a logarithmic axis, those at 2 and 5 are worth a number."""
    digit = f"{value:e}"[0]
    return f"{value:g}" if digit in "25" else ""
