"""Files of a comparison, under the names of the engines' own scripts: PNG, CSV, HTML."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import autotune
from autotune.backends.versions import triton_version
from autotune.engines.atomic import write_text
from autotune.kernels.verify import TOLERANCE
from autotune.report.comparison.provider_charts import PLOT_NAME, provider_charts, times_of
from autotune.report.html import document
from autotune.report.style import Picture, styled
from autotune.studies.outcome import Outcome
from autotune.tune.comparison.providers import Comparison, Point

_HEADER = (
    "batch size",
    "line",
    "µs",
    "20 %",
    "80 %",
    "error",
    "right",
    "config",
    "measured by",
)


def write_comparison(comparison: Comparison, folder: Path) -> list[Path]:
    """Write everything into ``folder``; the paths, pictures first. Raises OSError.

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
        page = document.page(_title(comparison), _body(comparison, pictures))
    for name, text in (
        (f"{PLOT_NAME}.csv", _wide(comparison)),
        (f"{PLOT_NAME}-details.csv", _csv(list(point_rows(comparison)))),
        (f"{PLOT_NAME}.html", page),
    ):
        write_text(folder / name, text)
        written.append(folder / name)
    return written


def point_rows(comparison: Comparison) -> Iterator[dict[str, Any]]:
    """One row a point, for ``--json`` and for the file with the details."""
    for point in comparison.points:
        yield _row(comparison, point)


def table_rows(comparison: Comparison) -> list[dict[str, Any]]:
    """The same for a terminal."""
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


def _row(comparison: Comparison, point: Point) -> dict[str, Any]:
    result, quantiles = point.result, point.quantiles_us
    middle, low, high = (round(us, 2) for us in quantiles) if quantiles else (None, None, None)
    error = result.relative_error
    return {
        "batch_size": point.tokens,
        "line": point.line.name,
        "provider": point.line.provider,
        "version": comparison.about[point.line.provider][0],
        "config": str(point.config) if point.config else None,
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


def _wide(comparison: Comparison) -> str:
    times = times_of(comparison)
    sizes = sorted({point.tokens for point in comparison.points})
    rows = []
    for size in sizes:
        row: dict[str, Any] = {"batch_size": size}
        for line, by_size in times.items():
            row[line.name] = f"{by_size[size][0] / 1000:.6f}" if size in by_size else ""
        rows.append(row)
    return _csv(rows)


def _csv(rows: Sequence[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]) if rows else ["batch_size"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _title(comparison: Comparison) -> str:
    return f"{comparison.model}: one MoE layer on {_where(comparison)}"


def _where(comparison: Comparison) -> str:
    return comparison.device.name if comparison.device else "the CPU"


def _body(comparison: Comparison, pictures: Sequence[Picture]) -> Iterator[str]:
    yield f'<p class="soft">Written by autotune {autotune.__version__}.</p>'
    if comparison.device is None:
        yield document.paragraph("Measured on the CPU: these times say nothing of any GPU.")
    yield document.pairs(_facts(comparison))
    yield from (document.figure(picture) for picture in pictures)
    yield document.section(
        "What was measured",
        document.paragraph(
            "The error is the largest difference from the eager twin over a row's root mean "
            f"square; up to {TOLERANCE[comparison.problem.dtype]:g} is rounding. Samples are "
            "medians of three calls, one for each of ten routings, in two rounds over all lines."
        ),
        document.table(_HEADER, (_cells(row) for row in point_rows(comparison)), words=2),
    )
    if comparison.skipped:
        yield document.section("What is missing", document.pairs(comparison.skipped.items()))


def _facts(comparison: Comparison) -> Iterator[tuple[str, object]]:
    name = comparison.problem.name.rpartition(" M=")[0]
    yield "Layer of one rank", name
    yield "Device", _where(comparison)
    yield "Triton", triton_version()
    for provider, (version, does) in comparison.about.items():
        yield provider, f"{version}: {does}"


def _cells(row: dict[str, Any]) -> Sequence[object]:
    right = "" if row["right"] is None else "yes" if row["right"] else "no"
    shown = row["us"] if row["us"] is not None else f"{row['outcome']}: {row['reason'] or ''}"
    keys = ("us_low", "us_high", "relative_error")
    low, high, error = (row[key] for key in keys)
    head = (row["batch_size"], row["line"], shown, low, high, error, right)
    return (*head, row["config"] or "its own", row["how"] or "")
