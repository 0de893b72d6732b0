"""The page of ``compare``: kernels side by side, in plots named as the engines' own scripts do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autotune.backends.host_facts import triton_version
from autotune.engines.atomic import write_text
from autotune.kernels.verify import TOLERANCE
from autotune.report.comparison import PLOT_NAME, Times, detail_rows, times_of
from autotune.report.html.templating import Table, filled
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
    legend_above,
    log_scale,
    styled,
    token_axis,
)
from autotune.tuning.comparison.compare import Comparison
from autotune.tuning.comparison.variants import Variant

if TYPE_CHECKING:
    from matplotlib.axes import Axes

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
_HEADER = ("batch size", "line", "µs", "20 %", "80 %", "error", "right", "config", "measured by")
_TEXTS = ("line", "right", "config", "measured by")


def write_page(comparison: Comparison, folder: Path) -> list[Path]:
    """Write the page and its pictures into ``folder``; return the paths, the page last. Raises
    OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    with styled():
        pictures = list(provider_charts(comparison))
        for picture in pictures:
            path = folder / f"{picture.slug}.png"
            path.write_bytes(picture.png())
            written.append(path)
        title = f"{comparison.model}: one MoE layer on {_where(comparison)}"
        page = filled("compare.html.j2", title, **_values(comparison), pictures=pictures)
    path = folder / f"{PLOT_NAME}.html"
    write_text(path, page)
    return [*written, path]


def _where(comparison: Comparison) -> str:
    return comparison.device.name if comparison.device else "the CPU"


def _values(comparison: Comparison) -> dict[str, Any]:
    """Return what templates/compare.html.j2 lays out, but for the pictures."""
    rows = [_cells(row) for row in detail_rows(comparison)]
    return {
        "is_cpu": comparison.device is None,
        "facts": list(_facts(comparison)),
        "tolerance": f"{TOLERANCE[comparison.problem.dtype]:g}",
        "points": Table(_HEADER, rows, texts=_TEXTS),
        "skipped": list(comparison.skipped.items()),
    }


def _facts(comparison: Comparison) -> Iterator[tuple[str, object]]:
    name = comparison.problem.name.rpartition(" M=")[0]
    layers = comparison.layer_words or {"": name}
    yield from ((f"Layer of one rank {engine}".strip(), each) for engine, each in layers.items())
    yield "Device", _where(comparison)
    yield "Triton", triton_version()
    for provider, (version, does) in comparison.about.items():
        yield provider, f"{version}: {does}"


def _cells(row: dict[str, Any]) -> Sequence[object]:
    right = "" if row["right"] is None else "yes" if row["right"] else "no"
    shown = row["us"] if row["us"] is not None else f"{row['outcome']}: {row['reason'] or ''}"
    quantiles = row["us_low"], row["us_high"]
    head = (row["batch_size"], row["line"], shown, *quantiles, row["relative_error"], right)
    return (*head, row["config"] or "its own", row["how"] or "")


def baseline_of(times: Times) -> Variant | None:
    """Return the line that speed-ups are over: an engine as it is, else an engine's default in
    our kernels, else the first line. None where nothing was measured."""
    own = [v for v in times if v.provider in ENGINE_COLOURS and v.source is None]
    defaults = [variant for variant in times if variant.is_default]
    return next(iter([*own, *defaults, *times]), None)


def provider_charts(comparison: Comparison) -> Iterator[Picture]:
    """Yield nothing where nothing was measured; no speed-up where there is one line alone."""
    times = times_of(comparison)
    baseline = baseline_of(times)
    if baseline is None:
        return
    yield _time_chart(comparison, times)
    if len(times) > 1:
        yield _speedup_chart(times, baseline)


def _time_chart(comparison: Comparison, times: Times) -> Picture:
    figure, [axes] = axes_row(height=4.6)
    for variant, (colour, dash, marker) in _looks(times):
        sizes = sorted(times[variant])
        middle, low, high = zip(*(times[variant][size] for size in sizes), strict=True)
        axes.plot(sizes, middle, dash, marker=marker, color=colour, label=variant.name)
        axes.fill_between(sizes, low, high, color=colour, alpha=0.18, linewidth=0)
    log_scale(axes)
    axes.set_ylabel("µs")
    _finish(axes, times)
    where = comparison.device.name if comparison.device else "the CPU: it says nothing of a GPU"
    return Picture(
        PLOT_NAME,
        "Time of one layer",
        f"Median, and the band from the 20 % to the 80 % quantile, on {where}. Lower is better.",
        figure,
    )


def _speedup_chart(times: Times, baseline: Variant) -> Picture:
    figure, [axes] = axes_row(height=4.2)
    base, every = times[baseline], [1.0]
    for variant, (colour, dash, marker) in _looks(times):
        sizes = sorted(set(times[variant]) & set(base))
        ratios = [base[size][0] / times[variant][size][0] for size in sizes]
        every += ratios
        axes.plot(sizes, ratios, dash, marker=marker, color=colour, label=variant.name)
    axes.axhline(1, color="black", linewidth=0.9)
    if max(every) > _WIDE * min(every):
        log_scale(axes)
    axes.set_ylabel(f"times as fast as {baseline.name}")
    _finish(axes, times)
    return Picture(
        f"{PLOT_NAME}-speedup",
        f"Speed-up over {baseline.name}",
        f"Median time of {baseline.name} over that of each line; above 1 is faster.",
        figure,
    )


def _looks(times: Times) -> Iterator[tuple[Variant, tuple[str, str, str]]]:
    """Yield each line with its colour, by provider, and dash, by which lines of one differ."""
    taken: dict[str, Iterator[tuple[str, str]]] = {}
    for variant in times:
        colours = _COLOURS[variant.provider]
        pairs = cycle([(colour, dash) for dash in _DASHES for colour in colours])
        colour, dash = next(taken.setdefault(variant.provider, pairs))
        yield variant, (colour, dash, _MARKERS.get(variant.provider, "x"))


def _finish(axes: Axes, times: Times) -> None:
    tokens = {size for by_size in times.values() for size in by_size}
    token_axis(axes, tokens)
    legend_above(axes, 3)
