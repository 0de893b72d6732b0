from __future__ import annotations

from dataclasses import dataclass

import pytest

from autotune.report.terminal.eta import TimeLeft, still_expected


class _Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_nothing_is_said_without_a_pace() -> None:
    left = TimeLeft(_Clock())
    assert left.seconds is None
    left.measured(10)
    assert left.seconds is None


def test_at_a_steady_pace_it_is_right_and_only_falls() -> None:
    clock = _Clock()
    left, shown = TimeLeft(clock), []
    for done in range(1, 101):
        clock.now = float(done)
        left.measured(100 - done)
        shown.append(left.seconds)
    known = [seconds for seconds in shown if seconds is not None]
    assert known == sorted(known, reverse=True)
    assert abs(known[0] - 97) < 1
    assert known[-1] == 0


def test_it_falls_between_measurements_and_grows_where_none_comes() -> None:
    clock = _Clock()
    left = TimeLeft(clock)
    for done in range(1, 11):
        clock.now = float(done)
        left.measured(100 - done)
    first = left.seconds
    assert first == 90
    clock.now += 2
    assert left.seconds == first - 2
    clock.now += 3
    assert left.seconds == first - 5  # five usual gaps
    clock.now += 20
    assert left.seconds == 90 * 5 - 5  # half of ten took five times as long as was thought


def test_a_faster_pace_is_believed_soon() -> None:
    clock = _Clock()
    left = TimeLeft(clock)
    for done in range(1, 101):
        clock.now += 10.0 if done <= 20 else 1.0
        left.measured(200 - done)
    assert left.seconds is not None
    assert 90 <= left.seconds <= 130


@dataclass
class _Study:
    count: int
    usual_end: int = 20
    ended: str = ""
    target: int = 60

    @property
    def measured(self) -> range:
        return range(self.count)


@pytest.mark.parametrize(
    ("studies", "expected"),
    [
        ([_Study(0)] * 18, 18 * 20),  # as usual, before any has ended
        ([_Study(0, usual_end=60)] * 2, 120),  # where nothing ends early
        ([_Study(12), _Study(24)], 8 + 8),  # what is late goes on for a while
        ([_Study(16, ended="converged"), _Study(3)], 0.9 * 20 - 3),
        ([_Study(60), _Study(20)], 2 * 20 - 20),
        ([_Study(60), _Study(57)], 60 - 57),
        ([_Study(0, ended="40 failures in a row"), _Study(0)], 20),  # tells nothing of others
        ([_Study(16, ended="converged"), _Study(60)], 0),
        ([], 0),
    ],
)
def test_measurements_still_expected(studies: list[_Study], expected: float) -> None:
    assert still_expected(studies) == pytest.approx(expected)
