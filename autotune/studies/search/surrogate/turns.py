"""Processes that ask of one study at the same moment take turns, so that none takes another's row.

A trial has a number before it has parameters. In between, nobody else can know what it will be.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from optuna.study import Study
from optuna.trial import FrozenTrial

from autotune.intervals import POLL_S

PATIENCE_S = 20.0
"""Where none of the earlier ones has asked for so long, they are dead or stuck, and their trials
are not waited for again."""


class Turns:
    """Trials with a lower number ask first."""

    def __init__(self, is_asking: Callable[[FrozenTrial], bool]) -> None:
        """``is_asking`` tells whether a trial has no parameters yet."""
        self._is_asking = is_asking
        self._given_up: set[int] = set()

    def others(self, study: Study, number: int) -> list[FrozenTrial]:
        """All trials but that one, as they are now."""
        return [trial for trial in study.get_trials(deepcopy=False) if trial.number != number]

    def wait(
        self, study: Study, number: int, trials: list[FrozenTrial], patience_s: float = PATIENCE_S
    ) -> list[FrozenTrial]:
        """``trials``, or what they are once every earlier one has its parameters."""
        asking = self._earlier(trials, number)
        end = time.monotonic() + patience_s
        while asking:
            if time.monotonic() > end:
                self._given_up |= asking
                break
            time.sleep(POLL_S)
            trials = self.others(study, number)
            before, asking = asking, self._earlier(trials, number)
            if asking != before:
                end = time.monotonic() + patience_s
        return trials

    def _earlier(self, trials: list[FrozenTrial], number: int) -> set[int]:
        asking = {t.number for t in trials if t.number < number and self._is_asking(t)}
        return asking - self._given_up
