"""Files of a comparison, from made-up times."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pytest

from autotune.report.comparison import detail_rows, table_rows, times_of, write_data
from autotune.report.html.provider_page import baseline_of, write_page
from autotune.spec.config import Config
from autotune.spec.measurement import Measurement
from autotune.spec.problem import Problem
from autotune.studies.outcome import Outcome, TrialResult
from autotune.tuning.comparison.compare import Comparison, VariantTime
from autotune.tuning.comparison.variants import Variant

PROBLEM = Problem(experts=8, top_k=2, hidden=4096, intermediate=7168, tokens=64)
OURS = Variant("autotune, vLLM default", "autotune", lambda *_: None, is_default=True)
THEIRS, TORCH = Variant("vllm", "vllm"), Variant("torch", "torch")
TILES = Config(16, 64, 64, 1)


def _ok(*samples_us: float) -> TrialResult:
    return TrialResult(Outcome.OK, Measurement(samples_us, "graph"), relative_error=0.01)


WRONG = TrialResult(Outcome.WRONG_RESULT, reason="relative error 3", relative_error=3.0)


def _comparison(*points: VariantTime) -> Comparison:
    lines = tuple(dict.fromkeys(point.variant for point in points))
    about = {line.provider: (f"{line.provider} 1.0", "does it") for line in lines}
    return Comparison(
        "Some/Model", PROBLEM, None, lines, points, {"sglang": "absent"}, False, about
    )


BOTH = _comparison(
    VariantTime(1, OURS, TILES, _ok(*range(1, 12))),
    VariantTime(1, THEIRS, None, _ok(12, 12, 12)),
    VariantTime(64, OURS, TILES, _ok(10, 10, 10)),
    VariantTime(64, THEIRS, None, WRONG),
)


def test_quantiles_are_those_of_the_engines_scripts() -> None:
    assert BOTH.times[0].quantiles_us == (6, 3, 9)
    assert BOTH.times[3].quantiles_us is None


def test_files_and_what_is_in_them(tmp_path: Path) -> None:
    names = [
        path.name for write in (write_page, write_data) for path in write(BOTH, tmp_path / "new")
    ]
    endings = (".png", "-speedup.png", ".html", ".csv", "-details.csv")
    assert names == [f"fused-moe-performance{ending}" for ending in endings]
    with (tmp_path / "new/fused-moe-performance.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert rows == [
        {"batch_size": "1", "autotune, vLLM default": "0.006000", "vllm": "0.012000"},
        {"batch_size": "64", "autotune, vLLM default": "0.010000", "vllm": ""},
    ]
    page = (tmp_path / "new/fused-moe-performance.html").read_text()
    for words in ("Some/Model", "absent", "wrong result: relative error 3", "vllm 1.0: does it"):
        assert words in page


def test_a_wrong_result_is_told_apart() -> None:
    rows = list(detail_rows(BOTH))
    assert [row["right"] for row in rows] == [True, True, True, False]
    assert [row["us"] for row in rows] == [6.0, 12.0, 10.0, None]
    shown = table_rows(BOTH)[3]
    assert (shown["right"], shown["µs"]) == ("NO", "wrong result")


@pytest.mark.parametrize(
    ("lines", "baseline"),
    [((TORCH, OURS, THEIRS), THEIRS), ((TORCH, OURS), OURS), ((TORCH,), TORCH)],
)
def test_speed_ups_are_over_what_a_user_has(lines: tuple[Variant, ...], baseline: Variant) -> None:
    comparison = _comparison(*(VariantTime(1, line, None, _ok(1, 2)) for line in lines))
    assert baseline_of(times_of(comparison)) == baseline


def test_nothing_measured_is_a_page_without_pictures(tmp_path: Path) -> None:
    nothing = replace(BOTH, times=(VariantTime(1, THEIRS, None, WRONG),))
    names = [path.name for path in write_page(nothing, tmp_path)]
    assert names == ["fused-moe-performance.html"]
    write_data(nothing, tmp_path)
    assert (tmp_path / "fused-moe-performance.csv").read_text() == "batch_size\n1\n"
