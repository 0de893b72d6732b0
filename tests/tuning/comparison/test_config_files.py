"""Engine files against each other, through a real child process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fakes import ABORT, FINE, NoisyMeasurer  # type: ignore[import-not-found]

from autotune.spec.config import Config
from autotune.spec.problem import Problem
from autotune.studies.selection.paired_ratio import Ratio
from autotune.tuning.comparison.config_files import FileTime, FileVerdict, side_by_side
from autotune.tuning.processes.child import Child

PROBLEM = Problem(experts=8, top_k=2, hidden=256, intermediate=128, tokens=64)


@pytest.fixture
def child() -> Iterator[Child]:
    opened = Child(NoisyMeasurer)
    yield opened
    opened.close()


def _given(source: str, group: int, stages: int = FINE) -> FileTime:
    return FileTime(source, 64, Config(16, 32, 64, group, 4, stages))


def test_the_faster_file_wins_and_the_interval_says_by_how_much(child: Child) -> None:
    given = [_given("a", 8), _given("b", 1), _given("c", 8)]
    row = side_by_side(PROBLEM, given, child, timeout_s=30, rounds=6)
    first, second, third = row.entries
    assert (first.ratio, first.verdict) == (None, None)
    assert second.ratio is not None
    assert second.ratio == pytest.approx(101 / 108, rel=0.002)  # the fake's noise
    assert second.verdict is FileVerdict.FASTER
    assert (third.ratio, third.verdict) == (None, FileVerdict.SAME)
    assert third.geomean_us == first.geomean_us
    assert row.winner == "b"


@pytest.mark.parametrize(
    ("margin", "verdict", "winner"),
    [(0.05, FileVerdict.FASTER, "b"), (0.1, FileVerdict.MODEL, None)],
)
def test_an_estimate_is_no_faster_within_the_models_error(
    child: Child, margin: float, verdict: FileVerdict, winner: str | None
) -> None:
    given = [_given("a", 8), _given("b", 1)]
    row = side_by_side(PROBLEM, given, child, timeout_s=30, rounds=1, margin=margin)
    assert (row.entries[1].verdict, row.entries[1].interval, row.winner) == (verdict, None, winner)
    assert FileVerdict.of_estimates(1.2, margin) is FileVerdict.SLOWER


def test_within_the_noise_nobody_wins(child: Child) -> None:
    """The fake knows GROUP_SIZE_M alone: these two are the same to it."""
    given = [_given("a", 4), FileTime("b", 64, Config(16, 64, 64, 4, 4, FINE))]
    row = side_by_side(PROBLEM, given, child, timeout_s=30, rounds=6)
    assert row.winner is None
    assert row.entries[1].verdict in (FileVerdict.EVEN, FileVerdict.UNCLEAR)


def test_a_config_that_dies_has_a_reason_and_the_rest_goes_on(child: Child) -> None:
    given = [_given("a", 1, ABORT), _given("b", 1), _given("c", 8)]
    row = side_by_side(PROBLEM, given, child, timeout_s=30, rounds=2)
    assert "SIGABRT" in row.entries[0].reason
    assert row.entries[0].geomean_us is None
    assert [entry.ratio for entry in row.entries[1:]] == [None, None]
    assert row.winner == "b"


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.97, 0.999, FileVerdict.FASTER),
        (1.001, 1.03, FileVerdict.SLOWER),
        (0.9985, 1.0015, FileVerdict.EVEN),
        (0.9985, 0.9995, FileVerdict.EVEN),
        (0.98, 1.01, FileVerdict.UNCLEAR),
    ],
)
def test_a_verdict_is_what_the_interval_allows(
    low: float, high: float, verdict: FileVerdict
) -> None:
    assert FileVerdict.of(Ratio((low + high) / 2, low, high)) is verdict
