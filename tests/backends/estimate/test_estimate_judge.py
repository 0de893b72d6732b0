"""The time model's choices on recorded landscapes: the bar that a change must not fall below."""

from __future__ import annotations

import judge

CHOICE_BAR = 0.93
TOP_TEN_BAR = 0.96
RANK_BAR = 0.8


def test_choices_are_near_the_optimum() -> None:
    rows = [
        row
        for case in judge.CASES
        for row in judge.judge_case(
            case, judge.read_gemm_times(judge.DEFAULT_LANDSCAPES / case.file)
        )
    ]
    assert judge.mean_share(rows) >= CHOICE_BAR
    assert sum(row.top_ten_share for row in rows) / len(rows) >= TOP_TEN_BAR
    assert min(row.rank_correlation for row in rows) >= RANK_BAR
    for engine in rows[0].default_shares:
        mean_default = sum(row.default_shares[engine] for row in rows) / len(rows)
        assert judge.mean_share(rows) > mean_default, engine
