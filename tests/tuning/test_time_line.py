from __future__ import annotations

import pytest

from autotune.tuning.time_line import (
    PIECE_S,
    Cause,
    DeviceTime,
    TimeLine,
    shares_of,
    shares_words,
    worker_times,
)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def line(clock: Clock) -> TimeLine:
    return TimeLine(clock)


def _sums(device_time: DeviceTime) -> dict[Cause, float]:
    found: dict[Cause, float] = {}
    for piece in device_time.pieces.values():
        for cause, seconds in piece.items():
            found[cause] = found.get(cause, 0.0) + seconds
    return {cause: pytest.approx(seconds) for cause, seconds in found.items()}


def test_it_begins_with_the_device_and_ends_with_the_notes(line: TimeLine, clock: Clock) -> None:
    clock.now += 3
    line.turn_to(Cause.ASK)
    clock.now += 1
    assert _sums(line.taken()) == {Cause.OPEN: 3.0, Cause.ASK: 1.0}


def test_a_piece_is_a_quarter_of_a_second(line: TimeLine, clock: Clock) -> None:
    clock.now += 0.6
    pieces = line.taken().pieces
    assert [sum(piece.values()) for piece in pieces.values()] == pytest.approx([0.25, 0.25, 0.1])
    assert list(pieces) == [400, 401, 402]
    assert PIECE_S == 0.25


def test_what_an_answer_does_not_account_for_is_of_what_follows(
    line: TimeLine, clock: Clock
) -> None:
    line.turn_to(Cause.TIME)
    clock.now += 2
    line.spend(Cause.VERIFY, 0.5)
    line.spend(Cause.TIME, 0.25)
    line.go_on(Cause.COMPILE)
    clock.now += 1
    found = line.taken()
    assert _sums(found) == {Cause.VERIFY: 0.5, Cause.TIME: 0.25, Cause.COMPILE: 2.25}
    assert (found.first_s, found.last_s) == (100.0, 100.75)


def test_no_more_is_spent_than_has_passed(line: TimeLine, clock: Clock) -> None:
    clock.now += 1
    line.spend(Cause.TIME, 5.0)
    line.spend(Cause.VERIFY, -1.0)
    assert _sums(line.taken()) == {Cause.TIME: 1.0}


def _device_time(first: float, last: float, *spans: tuple[Cause, float]) -> DeviceTime:
    clock = Clock()
    clock.now = 0.0
    line = TimeLine(clock)
    for cause, seconds in spans:
        clock.now += seconds
        line.spend(cause, seconds)
    return DeviceTime(line.taken().pieces, first, last)


def test_only_the_time_between_first_and_last_measurement_counts() -> None:
    found = _device_time(
        1.0, 3.0, (Cause.OPEN, 1.0), (Cause.TIME, 0.5), (Cause.COMPILE, 1.0), (Cause.TIME, 0.5)
    )
    shares = shares_of({"0": found})
    assert shares == pytest.approx({Cause.TIME: 0.5, Cause.COMPILE: 0.5})


def test_workers_that_share_a_device_do_not_wait_for_each_other() -> None:
    one = _device_time(0.0, 2.0, (Cause.TIME, 1.0), (Cause.TURN, 1.0))
    two = _device_time(1.0, 2.0, (Cause.COMPILE, 1.0), (Cause.VERIFY, 1.0))
    assert shares_of({"0 sglang": one, "0 vllm": two}) == pytest.approx(
        {Cause.TIME: 0.5, Cause.VERIFY: 0.5}
    )


def test_what_is_left_over_is_shared_among_what_workers_wait_for() -> None:
    one = _device_time(0.0, 1.0, *[(Cause.TIME, 0.05), (Cause.COMPILE, 0.2)] * 4)
    two = _device_time(0.0, 1.0, *[(Cause.TIME, 0.05), (Cause.ASK, 0.2)] * 4)
    assert shares_of({"0 sglang": one, "0 vllm": two}) == pytest.approx(
        {Cause.TIME: 0.4, Cause.COMPILE: 0.3, Cause.ASK: 0.3}
    )


def test_the_time_of_devices_adds_up() -> None:
    one = _device_time(0.0, 1.0, (Cause.TIME, 1.0))
    two = _device_time(0.0, 3.0, (Cause.TIME, 1.0), (Cause.COMPILE, 1.0), (Cause.TIME, 1.0))
    assert shares_of({"0": one, "1": two}) == pytest.approx({Cause.TIME: 0.75, Cause.COMPILE: 0.25})


def test_nothing_measured_has_no_shares() -> None:
    assert shares_of({}) == shares_of({"0": DeviceTime()}) == {}


def test_the_words_name_what_was_waited_for() -> None:
    shares = {Cause.TIME: 0.5, Cause.COMPILE: 0.3, Cause.VERIFY: 0.197, Cause.ASK: 0.003}
    assert shares_words(shares) == (
        "GPUs verified and timed 70% of their time (waiting for compiles 30%)"
    )


def test_the_json_begins_with_the_run() -> None:
    one = {"0": _device_time(0.25, 0.5, (Cause.OPEN, 0.25), (Cause.TIME, 0.1))}
    assert worker_times(one, -1.0)["0"].as_json() == {
        "first_s": 1.25,
        "last_s": 1.5,
        "pieces": [
            {"start_s": 1.0, "seconds": {"opening the device": 0.25}},
            {"start_s": 1.25, "seconds": {"timing": 0.1}},
        ],
    }
    nothing = worker_times({"0": DeviceTime()}, 0.0)["0"]
    assert nothing.as_json() == {"first_s": None, "last_s": None, "pieces": []}
