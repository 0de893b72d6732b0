"""Whose turn it is."""

from __future__ import annotations

from dataclasses import replace

from autotune.studies.coordination.round_robin import (
    BLOCK,
    Standing,
    by_turn,
    is_turn_over,
)

FRESH = Standing(workers=0, is_queued=True, is_near=True, is_known=False, started=0)
SEARCHED = Standing(workers=0, is_queued=False, is_near=True, is_known=True, started=12)


def test_what_is_queued_anywhere_comes_before_any_search() -> None:
    assert by_turn([SEARCHED, FRESH, SEARCHED, FRESH], last=1) == [3, 1, 2, 0]


def test_all_are_searched_abreast() -> None:
    behind = replace(SEARCHED, started=6)
    assert by_turn([SEARCHED, behind, SEARCHED], last=0) == [1, 2, 0]


def test_where_the_fewest_others_work_comes_first_among_equals() -> None:
    busy = replace(SEARCHED, workers=1, started=0)
    assert by_turn([busy, SEARCHED], last=1) == [1, 0]
    strange, strange_and_busy = (replace(s, is_known=False) for s in (SEARCHED, busy))
    assert by_turn([strange_and_busy, strange], last=1) == [1, 0]
    assert by_turn([strange, busy], last=1) == [1, 0]  # a worker keeps to what it knows


def test_what_the_device_holds_comes_before_what_is_behind() -> None:
    elsewhere = replace(SEARCHED, is_known=False, started=0)
    others = replace(SEARCHED, is_near=False, started=0)
    assert by_turn([others, elsewhere, SEARCHED], last=2) == [2, 1, 0]


def test_the_first_turns_of_several_workers_are_different_studies() -> None:
    assert [by_turn([FRESH] * 4, last=worker - 1)[0] for worker in range(4)] == [0, 1, 2, 3]


def test_a_turn_ends_with_the_queue_that_it_came_for_or_after_a_block() -> None:
    assert not is_turn_over(BLOCK + 1, came_for_queue=True, is_queued=True)
    assert is_turn_over(1, came_for_queue=True, is_queued=False)
    assert not is_turn_over(BLOCK - 1, came_for_queue=False, is_queued=True)
    assert is_turn_over(BLOCK, came_for_queue=False, is_queued=True)
