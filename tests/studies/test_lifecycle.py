from __future__ import annotations

import math
from dataclasses import replace

import pytest

from autotune.spec.config import Config, ConfigPair
from autotune.studies.lifecycle import (
    FAILURES_IN_A_ROW,
    BestHalves,
    Draining,
    EndReason,
    Finished,
    LastTries,
    Searching,
    StudyEnd,
    StudyFacts,
    state_of,
)

CONFIG = Config(16, 64, 64, 1, 4, 3)
PAIR = ConfigPair(CONFIG, CONFIG)
CONVERGED = StudyEnd.converged(0.001)
FAILED = StudyEnd.failed(["broken"] * FAILURES_IN_A_ROW)
TARGET = StudyEnd(EndReason.TARGET)
EXHAUSTED = StudyEnd(EndReason.EXHAUSTED)

OPEN = StudyFacts(end=None, measured=3, running=0, unwritten=0, is_queued=False, goal=10)
"""A study in the middle of its search."""
ENOUGH = replace(OPEN, expected_gain=0.001, stop_gain=0.01)
"""The same when its sampler has had enough."""
FULL = replace(OPEN, measured=10)
"""The same with all its measurements."""
EMPTY = replace(OPEN, is_exhausted=True)
"""The same when its space is used up."""


def test_a_study_with_room_is_searched() -> None:
    assert state_of(OPEN) == Searching()
    assert state_of(replace(OPEN, measured=9)) == Searching()
    assert state_of(replace(OPEN, running=6)) == Searching()
    assert state_of(replace(OPEN, expected_gain=0.001)) == Searching()  # no --stop-gain


@pytest.mark.parametrize("full", [FULL, replace(OPEN, measured=11)])
def test_a_study_with_all_its_measurements_has_reached_its_target(full: StudyFacts) -> None:
    assert state_of(full) == Finished(TARGET)
    assert state_of(replace(full, last_tries=(CONFIG,))) == Finished(TARGET)  # not converged
    assert state_of(replace(full, is_exhausted=True)) == Finished(TARGET)
    assert state_of(replace(full, expected_gain=0.0, stop_gain=0.01)) == Finished(TARGET)


def test_trials_in_work_fill_the_room_until_they_have_ended() -> None:
    assert state_of(replace(OPEN, measured=8, running=2)) == Draining(None)
    assert state_of(replace(OPEN, measured=8, running=1)) == Searching()


@pytest.mark.parametrize("busy", [{"running": 1}, {"unwritten": 1}])
def test_nothing_is_decided_while_trials_are_in_work(busy: dict[str, int]) -> None:
    ended = replace(OPEN, end=FAILED)
    cases = (
        (FULL, None),
        (EMPTY, None),
        (ENOUGH, CONVERGED),
        (ended, FAILED),
        (replace(ENOUGH, last_tries=(CONFIG,)), CONVERGED),
        (replace(FULL, best_halves=(PAIR,)), None),
    )
    for facts, end in cases:
        assert state_of(replace(facts, **busy)) == Draining(end)  # type: ignore[arg-type]
    assert state_of(replace(OPEN, unwritten=1)) == Searching()


def test_a_sampler_that_expects_too_little_ends_the_study() -> None:
    assert state_of(ENOUGH) == Finished(CONVERGED)
    assert state_of(replace(ENOUGH, expected_gain=0.01)) == Searching()
    assert state_of(replace(ENOUGH, expected_gain=math.inf)) == Searching()
    assert state_of(replace(ENOUGH, stop_gain=0.0, expected_gain=0.0)) == Searching()


def test_what_is_queued_is_measured_whatever_the_sampler_expects() -> None:
    assert state_of(replace(ENOUGH, is_queued=True)) == Searching()
    assert state_of(replace(OPEN, end=CONVERGED, is_queued=True)) == Searching()
    assert state_of(replace(EMPTY, is_queued=True)) == Searching()
    assert state_of(replace(FULL, is_queued=True)) == Finished(TARGET)


def test_a_converged_study_has_last_tries_first() -> None:
    for facts in (ENOUGH, replace(OPEN, end=CONVERGED), replace(FULL, end=CONVERGED)):
        assert state_of(replace(facts, last_tries=(CONFIG,))) == LastTries((CONFIG,))
        assert state_of(replace(facts, best_halves=(PAIR,))) == Finished(CONVERGED)
    assert state_of(replace(OPEN, last_tries=(CONFIG,))) == Searching()


def test_an_end_that_was_found_stands() -> None:
    """Trials that end meanwhile may change what the sampler expects."""
    assert state_of(replace(OPEN, end=CONVERGED)) == Finished(CONVERGED)
    other = StudyEnd(EndReason.CONVERGED, "as another version counts")
    assert state_of(replace(ENOUGH, end=other)) == Finished(other)
    assert state_of(replace(OPEN, end=FAILED)) == Finished(FAILED)


def test_failures_in_a_row_end_a_study_at_once() -> None:
    reasons = ["", "the last", *["broken"] * (FAILURES_IN_A_ROW - 2)]
    end = StudyEnd(EndReason.FAILURES, "40 failures in a row; the last: the last")
    failing = replace(OPEN, failures=reasons, last_tries=(CONFIG,), best_halves=(PAIR,))
    assert state_of(failing) == Finished(end)
    assert state_of(replace(failing, is_queued=True)) == Finished(end)
    assert state_of(replace(failing, end=CONVERGED)) == Finished(end)
    assert state_of(replace(failing, failures=reasons[1:])) == Searching()
    queued_after_failures = replace(OPEN, end=FAILED, is_queued=True)
    assert state_of(queued_after_failures) == Finished(FAILED)


def test_an_exhausted_space_ends_a_study() -> None:
    assert state_of(EMPTY) == Finished(EXHAUSTED)
    assert state_of(replace(EMPTY, last_tries=(CONFIG,))) == Finished(EXHAUSTED)


@pytest.mark.parametrize("facts", [FULL, EMPTY])
def test_the_best_halves_are_joined_before_a_study_of_pairs_ends(facts: StudyFacts) -> None:
    assert state_of(replace(facts, best_halves=(PAIR,))) == BestHalves((PAIR,))
    assert state_of(replace(OPEN, best_halves=(PAIR,))) == Searching()


@pytest.mark.parametrize(
    ("end", "text"),
    [
        (CONVERGED, "converged: 0.10% expected of the next trial"),
        (StudyEnd(EndReason.CONVERGED), "converged"),
        (EXHAUSTED, "every config of the space was tried"),
        (FAILED, "40 failures in a row; the last: broken"),
        (StudyEnd(EndReason.OTHER, "what a later version may say"), "what a later version may say"),
    ],
)
def test_an_end_is_stored_as_the_text_that_earlier_versions_wrote(end: StudyEnd, text: str) -> None:
    assert end.text == text
    assert StudyEnd.parse(text) == end


def test_a_target_is_not_stored() -> None:
    assert TARGET.text == ""
    assert StudyEnd.parse("") is None
