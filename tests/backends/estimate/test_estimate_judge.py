"""The time model's choices on recorded landscapes: the bar that a change must not fall below."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest

from autotune.backends.replay.landscape import load_landscape

ROOT = Path(__file__).parents[3]
LANDSCAPES = ROOT.parent / "shared" / "landscapes"
CHOICE_BAR = 0.93
TOP_TEN_BAR = 0.96
RANK_BAR = 0.8

pytestmark = pytest.mark.skipif(
    not LANDSCAPES.exists(), reason="recorded landscapes are not beside this checkout"
)


@pytest.fixture(scope="module")
def judge() -> ModuleType:
    sys.path.insert(0, str(ROOT / "benchmarks" / "estimate"))
    try:
        import judge  # type: ignore[import-not-found]
    finally:
        sys.path.pop(0)
    return judge


def test_choices_are_near_the_optimum(judge: ModuleType) -> None:
    rows = [
        row
        for case in judge.CASES
        for row in judge.judge_case(case, load_landscape(LANDSCAPES / case.file))
    ]
    assert judge.mean_share(rows) >= CHOICE_BAR
    assert sum(row.top_ten_share for row in rows) / len(rows) >= TOP_TEN_BAR
    assert min(row.rank_correlation for row in rows) >= RANK_BAR
    for engine in rows[0].default_shares:
        mean_default = sum(row.default_shares[engine] for row in rows) / len(rows)
        assert judge.mean_share(rows) > mean_default, engine
