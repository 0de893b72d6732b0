"""What a child has told of some batch sizes is believed of others that need the same."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from autotune.backends.binaries import Binaries, LaunchBinary
from autotune.backends.protocol import TimedBinaries
from autotune.spec.config import Config, ConfigPair
from autotune.spec.problem import Problem
from autotune.tuning.time_line import Cause
from autotune.tuning.workers.child_calls import Known
from autotune.tuning.workers.worker_loop import Worker

SMALL = Problem(experts=4, top_k=2, hidden=64, intermediate=32, tokens=8)
LARGE = replace(SMALL, tokens=1024)
LARGER = replace(SMALL, tokens=2048)
FIRST = Config(16, 64, 64, 1, 4, 3)
SECOND = replace(FIRST, block_size_n=128)
WIDE = replace(FIRST, block_size_m=64)


def _binaries(config: Config, up: str = "", down: str = "") -> Binaries:
    return {
        "up": LaunchBinary(f"up {config} {up}", "module", "kernel", ""),
        "down": LaunchBinary(f"down {config} {down}", "module", "kernel", ""),
    }


@pytest.fixture
def known() -> Known:
    """SMALL was asked about three configs."""
    known = Known()
    configs = (FIRST, SECOND, WIDE)
    known.tell(SMALL, configs, tuple(map(_binaries, configs)))
    return known


def test_a_batch_size_that_needs_the_same_of_one_needs_the_same_of_all(known: Known) -> None:
    assert known.get(LARGE, SECOND) is None
    known.tell(LARGE, [FIRST], [_binaries(FIRST)])
    assert known.get(LARGE, SECOND) == _binaries(SECOND)
    assert known.get(LARGE, WIDE) is None  # rows are counted by BLOCK_SIZE_M
    assert known.get(LARGE, replace(FIRST, num_stages=4)) is None
    assert known.of(LARGE, (SECOND, WIDE, FIRST)) == [_binaries(SECOND), _binaries(FIRST)]


@pytest.mark.parametrize("other", [{"up": "16 divides it"}, {"down": "more than 512 rows"}])
def test_one_that_needs_another_form_is_asked_itself(known: Known, other: dict[str, str]) -> None:
    known.tell(LARGE, [FIRST], [_binaries(FIRST, **other)])
    assert known.get(LARGE, SECOND) is None
    known.tell(LARGER, [FIRST], [_binaries(FIRST, **other)])
    known.tell(LARGE, [SECOND], [_binaries(SECOND, **other)])
    assert known.get(LARGER, SECOND) == _binaries(SECOND, **other)


def test_what_is_loaded_already_proves_nothing(known: Known) -> None:
    known.tell(LARGE, [FIRST], [{}])
    assert known.get(LARGE, FIRST) == {}
    assert known.get(LARGE, SECOND) is None
    known.tell(LARGE, [SECOND], [{"down": _binaries(SECOND)["down"]}])
    known.tell(SMALL, [replace(FIRST, num_warps=8)], [_binaries(replace(FIRST, num_warps=8))])
    assert known.get(LARGE, replace(FIRST, num_warps=8)) is None  # of the up GEMM nothing is told
    known.tell(LARGE, [FIRST], [{"up": _binaries(FIRST)["up"]}])
    assert known.get(LARGE, replace(FIRST, num_warps=8)) is not None


def test_pairs_are_told_apart_by_the_block_that_they_share(known: Known) -> None:
    pair = ConfigPair(FIRST, SECOND)
    known.tell(LARGE, [pair], [_binaries(FIRST)])
    known.tell(SMALL, [pair], [_binaries(FIRST)])
    assert known.get(LARGE, SECOND) == _binaries(SECOND)


def test_nothing_is_asked_twice(known: Known) -> None:
    question = known.question(LARGE, (), (FIRST, WIDE))
    assert (question.configs, question.is_waiting) == ((FIRST, WIDE), False)
    again = known.question(LARGE, (), (WIDE, FIRST))
    assert (again.configs, again.is_waiting) == ((), True)
    more = known.question(LARGE, (), (FIRST, SECOND))
    assert (more.configs, more.is_waiting) == ((SECOND,), True)
    known.tell(LARGE, question.configs, tuple(map(_binaries, question.configs)))
    last = known.question(LARGE, (), (FIRST, WIDE, SECOND))
    assert (last.configs, last.is_waiting) == ((), False)  # SECOND follows from FIRST


def test_what_a_child_could_not_tell_is_asked_again(known: Known) -> None:
    known.question(LARGE, (), (FIRST,))
    known.tell(LARGE, [FIRST], None)
    assert known.question(LARGE, (), (FIRST,)).configs == (FIRST,)


class Said:
    """Stands in for a worker's time line."""

    def __init__(self) -> None:
        self.spent: list[tuple[Cause, float]] = []

    def spend(self, cause: Cause, seconds: float) -> None:
        self.spent.append((cause, seconds))

    def go_on(self, cause: Cause) -> None:
        self.spent.append((cause, -1.0))


@pytest.mark.parametrize(("calls", "following"), [([], Cause.ASK), (["a trial"], Cause.TIME)])
def test_an_answer_that_waits_for_its_worker_is_no_asking_of_the_engine(
    known: Known, calls: list[str], following: Cause
) -> None:
    worker: Any = Worker.__new__(Worker)
    worker._calls, worker._compiles, worker._time_line = calls, [], Said()
    question = known.question(LARGE, (), (FIRST,))
    worker._note_time(question, TimedBinaries((_binaries(FIRST),), 0.25))
    assert worker._time_line.spent == [(Cause.ENGINE, 0.25), (following, -1.0)]


def test_a_measurer_is_asked_with_its_seconds() -> None:
    class Measurer:
        def binaries(self, problem: Problem, configs: tuple[Config, ...]) -> Any:
            return tuple(map(_binaries, configs))

    held: Any = Measurer()
    said: TimedBinaries = Known().question(SMALL, (), (FIRST,)).call.on(held)
    assert said.binaries == (_binaries(FIRST),)
    assert said.seconds >= 0
