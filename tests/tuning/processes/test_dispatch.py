from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from multiprocessing.connection import wait

import pytest
from fakes import (  # type: ignore[import-not-found]
    ABORT,
    FINE,
    HANG,
    RAISE,
    REFUSE,
    FaultyMeasurer,
)

from autotune.backends.protocol import Measurer
from autotune.errors import DeviceError
from autotune.spec.config import Config
from autotune.spec.problem import Problem
from autotune.studies.outcome import Outcome, TrialResult
from autotune.tuning.processes.child import Call, Child, ChildFault
from autotune.tuning.processes.dispatch import CallQueue, answer_to, answers

PROBLEM = Problem(experts=8, top_k=2, hidden=64, intermediate=64, tokens=1)
Ended = TrialResult | ChildFault


@pytest.fixture
def children() -> Iterator[list[Child]]:
    made = [Child(FaultyMeasurer) for _ in range(2)]
    yield made
    for child in made:
        child.close()


def call(stage: int, group: int = 1) -> Call[TrialResult]:
    return Call.of(Measurer.measure, PROBLEM, Config(16, 32, 64, group, 4, stage))


def is_fine(value: Ended) -> bool:
    return isinstance(value, TrialResult) and value.outcome is Outcome.OK


def calls(*stages: int) -> Iterator[tuple[int, Call[TrialResult]]]:
    for item, stage in enumerate(stages):
        yield item, call(stage)


def collected(children: list[Child], *stages: int, timeout_s: float = 60) -> dict[int, Ended]:
    found = answers(children, calls(*stages), timeout_s=timeout_s)
    return {answer.item: answer.value for answer in found}


def test_every_call_is_answered(children: list[Child]) -> None:
    found = collected(children, FINE, FINE, FINE, FINE, FINE)
    assert sorted(found) == [0, 1, 2, 3, 4]
    assert all(is_fine(value) for value in found.values())


def test_a_dead_child_costs_its_call_alone(children: list[Child]) -> None:
    found = collected(children, FINE, ABORT, RAISE, FINE)
    assert [item for item in range(4) if is_fine(found[item])] == [0, 3]
    assert isinstance(found[1], ChildFault)
    assert "SIGABRT" in found[1].reason
    assert not found[1].is_timeout


def test_a_hung_child_is_given_up(children: list[Child]) -> None:
    collected(children, FINE, FINE)  # they have started
    found = collected(children, HANG, FINE, FINE, timeout_s=2)
    assert found[0] == ChildFault("no answer in 2 s", is_timeout=True)
    assert is_fine(found[1])
    assert is_fine(found[2])


def test_an_error_of_the_user_is_raised(children: list[Child]) -> None:
    with pytest.raises(DeviceError, match="no such GPU"):
        collected(children, REFUSE)


def test_nothing_is_called_once_it_is_over(children: list[Child]) -> None:
    done: list[int] = []
    for answer in answers(children, calls(*[FINE] * 50), timeout_s=60, is_over=lambda: bool(done)):
        done.append(answer.item)
    assert 0 < len(done) <= 2


def test_what_hangs_when_it_is_over_is_left(children: list[Child]) -> None:
    done: list[int] = []
    found = answers(
        children, calls(FINE, HANG), timeout_s=60, is_over=lambda: bool(done), leave_s=0.1
    )
    for answer in found:
        done.append(answer.item)
    assert done == [0]


def test_one_call_has_its_answer_and_leaves_a_child_that_serves(children: list[Child]) -> None:
    child = children[0]
    assert isinstance(answer_to(child, call(ABORT), 60), ChildFault)
    child.call(Measurer.device)
    hung = answer_to(child, call(HANG), 0.3)
    assert isinstance(hung, ChildFault)
    assert hung.is_timeout
    assert is_fine(answer_to(child, call(FINE), 60))


def drained(queue: CallQueue[int, TrialResult]) -> dict[int, tuple[bool, int]]:
    """Item → whether it was answered well, and the children that it has cost."""
    found = {}
    until = time.monotonic() + 60
    while queue and time.monotonic() < until:
        wait([queue.connection], 0.1)
        for answer in queue.collect():
            found[answer.item] = is_fine(answer.value), answer.deaths
    return found


def test_calls_behind_a_fatal_one_are_innocent_and_it_is_tried_as_often_as_it_may(
    children: list[Child],
) -> None:
    started: list[int] = []
    queue = CallQueue[int, TrialResult](
        children[0], timeout_s=60, deaths=2, on_start=started.append
    )
    for item, stage in enumerate((FINE, ABORT, FINE)):
        queue.submit(item, call(stage))
    assert drained(queue) == {0: (True, 0), 1: (False, 2), 2: (True, 0)}
    assert started == [0, 1, 1, 2]


def test_a_call_whose_child_is_killed_is_no_death_of_its_own(children: list[Child]) -> None:
    queue = CallQueue[int, TrialResult](children[0], timeout_s=60, deaths=1, kills=3)
    children[0].call(Measurer.device)
    queue.submit(0, call(HANG))
    killed = []
    for _ in range(3):
        killed.append(children[0].process.pid)
        os.kill(children[0].process.pid, signal.SIGKILL)
        assert wait([queue.connection], 60)
        found = [(answer.item, answer.deaths) for answer in queue.collect()]
    assert len(set(killed)) == 3
    assert found == [(0, 0)]
    assert not queue


def test_whoever_gives_up_has_the_items_back(children: list[Child]) -> None:
    queue = CallQueue[str, TrialResult](children[0], timeout_s=60)
    queue.submit("a", call(HANG))
    queue.submit("b", call(FINE))
    assert queue.drop() == ["a", "b"]
    assert not queue
    assert queue.drop() == []
