"""Trials queued, ended behind the measuring, and given up."""

from __future__ import annotations

import math
import queue
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from optuna.study import Study
from optuna.trial import TrialState

from autotune.errors import StorageError
from autotune.spec.config import AnyConfig
from autotune.studies.space import SearchSpace
from autotune.studies.storage.protocol import Asked, TrialEnd
from autotune.studies.storage.retry import retry_storage
from autotune.studies.storage.transactions import transactions_of
from autotune.studies.trial_record import SOURCE, taken_configs

_End = tuple[Study, TrialEnd, Callable[[bool], None]]


class ResultWriter:
    """A thread that ends trials of one storage in the order in which they were given to it. What
    piles up meanwhile goes into one transaction."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[_End | None] = queue.SimpleQueue()
        self._error: StorageError | None = None
        self._thread = threading.Thread(target=self._run, name="result_writer", daemon=True)
        self._thread.start()

    def tell(self, study: Study, end: TrialEnd, then: Callable[[bool], None]) -> None:
        """Returns at once. ``then`` hears in the thread whether the end was written, or somebody
        else had ended the trial because this worker was taken for dead. Raises the StorageError
        that ended the thread."""
        self.check()
        self._queue.put((study, end, then))

    def check(self) -> None:
        """Raises the StorageError that ended the thread."""
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """Wait until everything is written. Raises StorageError where that failed."""
        self._queue.put(None)
        self._thread.join()
        self.check()

    def _run(self) -> None:
        try:
            while group := self._next_group():
                self._write(group)
        except StorageError as error:
            self._error = error

    def _next_group(self) -> list[_End]:
        """Wait for an end; return it and those that wait behind it, or nothing once closed."""
        group: list[_End] = []
        while not group or not self._queue.empty():
            following = self._queue.get()
            if following is None:
                self._queue.put(None)  # for the next call
                break
            group.append(following)
        return group

    def _write(self, group: Sequence[_End]) -> None:
        ends = [end for _, end, _ in group]
        ended = retry_storage(lambda: transactions_of(group[0][0]).finish(ends))
        for _, end, then in group:
            then(end.trial_id in ended)


def abandon(study: Study, *asked: Asked) -> None:
    """Give up trials that were interrupted: their configs may be asked again."""
    ends = [TrialEnd(each.trial_id, TrialState.FAIL) for each in asked]
    transactions_of(study).finish(ends)


def enqueue(
    study: Study,
    space: SearchSpace,
    starts: Iterable[tuple[AnyConfig, str]],
    *,
    goal: float = math.inf,
) -> list[AnyConfig]:
    """Queue warm starts, each with its source in words; what is known or infeasible is left out,
    and what would make the study's measurements, with those in work or queued, more than ``goal``.

    Queued trials survive a kill and are asked before the sampler is. Returns what was queued.
    """
    tried = taken_configs(study.get_trials(deepcopy=False))  # before the database is locked
    wanted: dict[AnyConfig, str] = {}
    for config, source in starts:
        if config in space and config not in tried:
            wanted.setdefault(config, source)
    queued: list[AnyConfig] = []

    def choose() -> list[tuple[Mapping[str, Any], Mapping[str, Any]]]:
        trials = study.get_trials(deepcopy=False)
        known = taken_configs(trials)
        room = goal - sum(trial.state != TrialState.FAIL for trial in trials)
        new = [config for config in wanted if config not in known]
        queued[:] = [config for number, config in enumerate(new) if number < room]
        return [(config.as_keys(), {SOURCE: wanted[config]}) for config in queued]

    if wanted:
        transactions_of(study).queue(study, choose)
    return queued
