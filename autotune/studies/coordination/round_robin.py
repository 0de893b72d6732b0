"""In which order a worker takes the studies of a run.

A config is compiled once for every batch size and takes a hundred times as long to compile as to
measure. Asking every study for its expected gain costs as much as a proposal each, so a worker
takes them in turn: benchmarks/workers/turns.py. What knowing the gains would bring is simulated by
benchmarks/samplers/model_seconds.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

BLOCK = 6
"""Trials of a turn. Few, since a study learns from its siblings between turns, and its proposals of
one turn know little of each other's results. 6 and 12 were not told apart by benchmarks/workers/
turns.py (three seeds)."""


@dataclass(frozen=True, slots=True)
class Standing:
    """A study as a worker sees it that looks for its next turn."""

    workers: int
    """Others at work on it."""
    is_queued: bool
    """Trials wait that are measured whatever is believed: defaults, warm starts, what somebody
    left; and nobody else is about to take them."""
    is_near: bool
    """The device holds its weights."""
    is_known: bool
    """This worker had a turn of it: the device may hold its tensors, and its sampler is warm."""
    started: int
    """Trials measured or in work."""


def by_turn(standings: Sequence[Standing], last: int) -> list[int]:
    """Places of the studies in the order in which a worker tries them whose last turn was
    ``last``.

    What is queued comes first, so that every study has something to show before one of them is
    searched; then what costs the least to turn to, so that several workers part the studies among
    them; where the fewest others work; and all abreast.
    """
    count = len(standings)

    def rank(place: int) -> tuple[bool, bool, bool, int, int, int]:
        s = standings[place]
        turn = (place - last - 1) % count
        return not s.is_queued, not s.is_near, not s.is_known, s.workers, s.started, turn

    return sorted(range(count), key=rank)


def is_turn_over(started: int, *, came_for_queue: bool, is_queued: bool) -> bool:
    """Whether to look for another study, after so many trials of this one."""
    return not is_queued if came_for_queue else started >= BLOCK
