"""The times of a comparison of providers: rows, and CSV files named as the engines' scripts do."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from autotune.documents.measuring import ComparePoint
from autotune.engines.atomic import write_text
from autotune.kernels.verify import TOLERANCE
from autotune.spec.config import config_from_keys
from autotune.studies.outcome import Outcome
from autotune.tuning.comparison.compare import Comparison, VariantTime
from autotune.tuning.comparison.variants import Variant

PLOT_NAME = "fused-moe-performance"
"""The name that the engines' own scripts give theirs."""

Times = Mapping[Variant, Mapping[int, tuple[float, float, float]]]
"""Variant → batch size → (middle, low, high) µs."""


def write_data(comparison: Comparison, folder: Path) -> list[Path]:
    """Write the times into ``folder``; return the paths. Raises OSError.

    ``fused-moe-performance.csv`` has the columns of the engines' scripts (batch_size, then ms by
    line), ``…-details.csv`` one row a point.
    """
    folder.mkdir(parents=True, exist_ok=True)
    texts = {"": _wide(comparison), "-details": _csv(detail_rows(comparison))}
    written = {folder / f"{PLOT_NAME}{ending}.csv": text for ending, text in texts.items()}
    for path, text in written.items():
        write_text(path, text)
    return list(written)


def points_of(comparison: Comparison) -> list[ComparePoint]:
    """Return each line of the plot at each batch size."""
    return [_point(comparison, time) for time in comparison.times]


def _point(comparison: Comparison, time: VariantTime) -> ComparePoint:
    result = time.result
    middle, low, high = time.quantiles_us or (None, None, None)
    is_known = result.relative_error is not None
    return ComparePoint(
        batch_size=time.tokens,
        line=time.variant.name,
        provider=time.variant.provider,
        version=comparison.about[time.variant.provider][0],
        config=time.config.as_keys() if time.config else None,
        us=middle,
        us_low=low,
        us_high=high,
        relative_error=result.relative_error,
        tolerance=TOLERANCE[comparison.problem.dtype],
        right=result.outcome is not Outcome.WRONG_RESULT if is_known else None,
        how=result.measurement.how if result.measurement else None,
        outcome=result.outcome.value,
        reason=result.reason or None,
    )


def detail_rows(comparison: Comparison) -> list[dict[str, Any]]:
    """Return a row a point for the file with the details: each config in a word."""
    return [point.as_json() | {"config": _config_words(point)} for point in points_of(comparison)]


def _config_words(point: ComparePoint) -> str | None:
    return str(config_from_keys(point.config)) if point.config else None


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
        for row in detail_rows(comparison)
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


def times_of(comparison: Comparison) -> Times:
    """Return the times of each line; lines without one are left out."""
    found: dict[Variant, dict[int, tuple[float, float, float]]] = {}
    for variant in comparison.variants:
        own = (time for time in comparison.times if time.variant == variant)
        times = {p.tokens: p.quantiles_us for p in own if p.quantiles_us is not None}
        if times:
            found[variant] = times
    return found
