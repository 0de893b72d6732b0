"""A comparison of providers in files, named as the engines' own scripts do: PNG, CSV, HTML."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes

from autotune.backends.host_facts import triton_version
from autotune.engines.atomic import write_text
from autotune.kernels.verify import TOLERANCE
from autotune.report.html import document
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
    log_scale,
    styled,
    token_axis,
)
from autotune.studies.outcome import Outcome
from autotune.tuning.comparison.compare import Comparison
from autotune.tuning.comparison.variants import Variant

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
"""The name that the engines' own scripts give theirs."""

Times = Mapping[Variant, Mapping[int, tuple[float, float, float]]]
"""Variant → batch size → (middle, low, high) µs."""
_HEADER = ("batch size", "line", "µs", "20 %", "80 %", "error", "right", "config", "measured by")


def write_comparison(comparison: Comparison, folder: Path) -> list[Path]:
    """Write everything into ``folder``; return the paths, pictures first. Raises OSError.

    ``fused-moe-performance.csv`` has the columns of the engines' scripts (batch_size, then ms by
    line), ``…-details.csv`` one row a point.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    with styled():
        pictures = list(provider_charts(comparison))
        for picture in pictures:
            path = folder / f"{picture.slug}.png"
            path.write_bytes(picture.png())
            written.append(path)
        title = f"{comparison.model}: one MoE layer on {_where(comparison)}"
        page = document.page(title, _body(comparison, pictures))
    for name, text in (
        (f"{PLOT_NAME}.csv", _wide(comparison)),
        (f"{PLOT_NAME}-details.csv", _csv(list(point_rows(comparison)))),
        (f"{PLOT_NAME}.html", page),
    ):
        write_text(folder / name, text)
        written.append(folder / name)
    return written


def point_rows(comparison: Comparison) -> Iterator[dict[str, Any]]:
    """Yield a row for each point, for ``--json`` and for the file with the details."""
    for time in comparison.times:
        result, quantiles = time.result, time.quantiles_us
        middle, low, high = (round(us, 2) for us in quantiles) if quantiles else (None, None, None)
        error = result.relative_error
        yield {
            "batch_size": time.tokens,
            "line": time.variant.name,
            "provider": time.variant.provider,
            "version": comparison.about[time.variant.provider][0],
            "config": str(time.config) if time.config else None,
            "us": middle,
            "us_low": low,
            "us_high": high,
            "relative_error": None if error is None else round(error, 5),
            "tolerance": TOLERANCE[comparison.problem.dtype],
            "right": None if error is None else result.outcome is not Outcome.WRONG_RESULT,
            "how": result.measurement.how if result.measurement else None,
            "outcome": result.outcome.value,
            "reason": result.reason or None,
        }


def table_rows(comparison: Comparison) -> list[dict[str, Any]]:
    """Return the rows as a terminal shows them."""
    return [
        {
            "batch size": row["batch_size"],
            "line": row["line"],
            "µs": row["us"] if row["us"] is not None else row["outcome"],
            "20 %": row["us_low"],
            "80 %": row["us_high"],
            "error": row["relative_error"],
            "right": "" if row["right"] is None else "yes" if row["right"] else "NO",
            "config": row["config"],
        }
        for row in point_rows(comparison)
    ]


def _wide(comparison: Comparison) -> str:
    times = times_of(comparison)
    sizes = sorted({time.tokens for time in comparison.times})
    lines = [(variant.name, by_size) for variant, by_size in times.items()]
    return _csv(
        [
            {"batch_size": size}
            | {n: f"{line[size][0] / 1000:.6f}" if size in line else "" for n, line in lines}
            for size in sizes
        ]
    )


def _csv(rows: Sequence[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]) if rows else ["batch_size"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _where(comparison: Comparison) -> str:
    return comparison.device.name if comparison.device else "the CPU"


def _body(comparison: Comparison, pictures: Sequence[Picture]) -> Iterator[str]:
    if comparison.device is None:
        yield document.paragraph("Measured on the CPU: these times say nothing of any GPU.")
    yield document.pairs(_facts(comparison))
    yield from (document.figure(picture) for picture in pictures)
    yield document.section(
        "What was measured",
        document.paragraph(
            "The error is the largest of a piece of the output, relative to the reference's norm; "
            f"up to {TOLERANCE[comparison.problem.dtype]:g} is rounding. Samples are "
            "medians of three calls, one for each of ten routings, in two rounds over all lines."
        ),
        document.table(_HEADER, (_cells(row) for row in point_rows(comparison)), words=2),
    )
    if comparison.skipped:
        yield document.section("What is missing", document.pairs(comparison.skipped.items()))


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


def times_of(comparison: Comparison) -> Times:
    """Return the times of each line; lines without one are left out."""
    found: dict[Variant, dict[int, tuple[float, float, float]]] = {}
    for variant in comparison.variants:
        own = (time for time in comparison.times if time.variant == variant)
        times = {p.tokens: p.quantiles_us for p in own if p.quantiles_us is not None}
        if times:
            found[variant] = times
    return found


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
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=min(len(times), 3))
