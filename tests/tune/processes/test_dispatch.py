from __future__ import annotations

from collections.abc import Iterator

import pytest
from fakes import (  # type: ignore[import-not-found]
    ABORT,
    FINE,
    HANG,
    RAISE,
    REFUSE,
    FaultyMeasurer,
)

from autotune.errors import DeviceError
from autotune.spec.config import Config
from autotune.spec.problem import Problem
from autotune.studies.outcome import Outcome
from autotune.tune.processes.child import Child
from autotune.tune.processes.dispatch import Answer, Call, answers

PROBLEM = Problem(experts=8, top_k=2, hidden=64, intermediate=64, tokens=1)


@pytest.fixture
def children() -> Iterator[list[Child]]:
    made = [Child(FaultyMeasurer) for _ in range(2)]
    yield made
    for child in made:
        child.close()


def calls(*stages: int) -> Iterator[Call[int]]:
    for item, stage in enumerate(stages):
        yield Call(item, "measure", (PROBLEM, Config(16, 32, 64, 1, 4, stage)))


def collected(children: list[Child], *stages: int, timeout_s: float = 60) -> dict[int, Answer[int]]:
    found = answers(children, calls(*stages), timeout_s=timeout_s)
    return {answer.item: answer for answer in found}


def test_every_call_is_answered(children: list[Child]) -> None:
    found = collected(children, FINE, FINE, FINE, FINE, FINE)
    assert sorted(found) == [0, 1, 2, 3, 4]
    assert all(answer.value.outcome is Outcome.OK for answer in found.values())


def test_a_dead_child_costs_its_call_alone(children: list[Child]) -> None:
    found = collected(children, FINE, ABORT, RAISE, FINE)
    assert {item for item, answer in found.items() if answer.fault} == {1, 2}
    assert "SIGABRT" in found[1].fault.reason  # type: ignore[union-attr]
    assert found[3].value.outcome is Outcome.OK


def test_a_hung_child_is_given_up(children: list[Child]) -> None:
    collected(children, FINE, FINE)  # they have started
    found = collected(children, HANG, FINE, FINE, timeout_s=2)
    assert {item for item, answer in found.items() if answer.timed_out} == {0}
    assert found[2].value.outcome is Outcome.OK


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
