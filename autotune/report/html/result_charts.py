"""Charts of what a run brings: latency, speed-up, share of the roofline."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from autotune.engines import ENGINES
from autotune.report.html.roofline import Roofline, rooflines_of
from autotune.report.layers import TunedLayer, result_for, shipped_us, speedup_of
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
    legend_above,
    log_scale,
    token_axis,
)
from autotune.spec.device import DeviceKind
from autotune.spec.problem import KernelMode

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_BAR = 0.38
"""Width of one bar where two engines stand side by side; batch sizes are 1 apart."""


def result_charts(layer: TunedLayer) -> Iterator[Picture]:
    """Yield the charts for which the layer has figures."""
    measured = [size for size in layer.sizes if size.best_us is not None]
    if not measured:
        return
    rooflines = rooflines_of(layer)
    yield latency(layer, rooflines)
    if any(speedup_of(size, engine) for size in measured for engine in layer.engines):
        yield speedup(layer)
    if rooflines:
        yield roofline_share(layer, rooflines)


def latency(layer: TunedLayer, rooflines: Mapping[int, Roofline]) -> Picture:
    figure, [axes] = axes_row(height=3.9)
    tips: dict[str, list[str]] = {}
    for engine in layer.engines:
        title, colour = ENGINES[engine].title, ENGINE_COLOURS[engine]
        marker, shipped = ENGINE_MARKERS[engine], shipped_us(layer, engine)
        default, own = f"{title} default", f"{title} shipped file"
        tips |= _line(axes, _defaults(layer, engine), default, color=colour, marker=marker)
        tips |= _line(axes, shipped, own, color=colour, marker="x", linestyle=":")
    best = {size.tokens: size.best_us for size in layer.sizes if size.best_us}
    tips |= _line(axes, best, "tuned", color=OURS, marker="o")
    bounds = {tokens: line.bound_us for tokens, line in rooflines.items()}
    _line(axes, bounds, "roofline", color=GREY, linestyle="--")
    log_scale(axes)
    axes.set_ylabel("µs")
    token_axis(axes, layer.tokens)
    legend_above(axes, 6)
    is_pair = layer.problem.kernel is KernelMode.SEPARATE
    is_estimate = layer.device.kind is DeviceKind.ESTIMATE
    mean = "Estimated time" if is_estimate else "Mean time"
    timed = "both GEMMs, each by itself" if is_pair else "the whole MoE layer"
    return Picture(
        "latency",
        "Time of one layer",
        f"{mean} of {timed}, lower is better. The dashed line is the least that "
        "the GPU's stated bandwidth and FLOP rate allow. Markers under the pointer say their time.",
        figure,
        tips,
    )


def speedup(layer: TunedLayer) -> Picture:
    figure, [axes] = axes_row(height=3.3)
    engines = layer.engines
    for place, engine in enumerate(engines):
        shift = (place - (len(engines) - 1) / 2) * _BAR
        gains = [(place, speedup_of(size, engine)) for place, size in enumerate(layer.sizes)]
        found = {place + shift: gain for place, gain in gains if gain is not None}
        if found:
            label, colour = f"over {ENGINES[engine].title}'s default", ENGINE_COLOURS[engine]
            heights = [gain - 1 for gain in found.values()]
            axes.bar(list(found), heights, _BAR, bottom=1, color=colour, label=label)
        for position, value in found.items():
            axes.annotate(
                f"{value:.2f}",
                (position, max(value, 1)),
                ha="center",
                va="bottom",
                fontsize=7,
                rotation=90 if len(layer.sizes) > 8 else 0,
                xytext=(0, 2),
                textcoords="offset points",
            )
    axes.axhline(1, color="black", linewidth=0.9)
    axes.margins(y=0.15)
    category_axis(axes, layer.tokens)
    axes.set_xlabel("batch size (tokens)")
    axes.set_ylabel("times as fast")
    is_estimate = layer.device.kind is DeviceKind.ESTIMATE
    error = "the model errs" if is_estimate else "the noise"
    legend_above(axes, 6)
    return Picture(
        "speedup",
        "Speed-up over the engines' defaults",
        "What the engine would launch without a config file, over what is written; 1 is no gain. "
        "A bar of no height means that the default stays, as nothing beat it by more than "
        f"{error}.",
        figure,
    )


def roofline_share(layer: TunedLayer, rooflines: Mapping[int, Roofline]) -> Picture:
    figure, [axes] = axes_row(height=3.0)
    memory, compute = {}, {}
    for size in layer.sizes:
        line = rooflines[size.tokens]
        if size.best_us:
            memory[size.tokens] = 100 * line.memory_us / size.best_us
            compute[size.tokens] = 100 * line.compute_us / size.best_us
    tips = _line(axes, memory, "of the memory bandwidth", " %", color=GREEN, marker="o")
    flops = "of the matrix units' FLOP rate"
    tips |= _line(axes, compute, flops, " %", color=PURPLE, marker="s")
    axes.axhline(100, color=GREY, linestyle="--", linewidth=1)
    axes.set_ylim(-3, max(105.0, *memory.values(), *compute.values()))
    axes.set_ylabel("% of the stated ceiling")
    token_axis(axes, layer.tokens)
    legend_above(axes)
    return Picture(
        "roofline",
        "Share of the roofline",
        "Bytes and FLOPs that the layer cannot do without, per second of the tuned time, against "
        "the datasheet's ceilings (which no kernel reaches whole). Each operand counts once.",
        figure,
        tips,
    )


def _defaults(layer: TunedLayer, engine: str) -> dict[int, float]:
    results = ((size.tokens, result_for(size, engine)) for size in layer.sizes)
    return {tokens: r.default_us for tokens, r in results if r is not None and r.default_us}


def _line(
    axes: Axes, values: Mapping[int, float], label: str, unit: str = " µs", **look: Any
) -> dict[str, list[str]]:
    """Draw a line over batch sizes; return what its markers say, as ``Picture.tips`` has it."""
    if not values:
        return {}
    sizes, gid = sorted(values), f"line {label}"
    axes.plot(sizes, [values[size] for size in sizes], label=label, clip_on=False, gid=gid, **look)
    return {gid: [f"{label}, batch size {size}: {values[size]:.1f}{unit}" for size in sizes]}
