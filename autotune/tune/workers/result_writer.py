"""Writes results behind the measuring: what piles up meanwhile goes into one transaction."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from optuna.study import Study

from autotune.errors import StorageError
from autotune.studies.storage.protocol import TrialEnd
from autotune.studies.storage.retry import retry_storage
from autotune.studies.storage.transactions import transactions_of


@dataclass(frozen=True, slots=True)
class PendingWrite:
    """A result on its way to the storage."""

    study: Study
    end: TrialEnd
    then: Callable[[bool], None]
    """Called in the writer's thread: whether it was written, or somebody else had ended the trial
    because this worker was taken for dead."""


class ResultWriter:
    """A thread that ends trials in the order in which they were given to it."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[PendingWrite | None] = queue.SimpleQueue()
        self._given = 0
        self._done = 0
        self._error: StorageError | None = None
        self._thread = threading.Thread(target=self._run, name="result_writer", daemon=True)
        self._thread.start()

    def tell(self, ending: PendingWrite) -> None:
        """Returns at once. Raises the StorageError that ended the thread."""
        self.check()
        self._given += 1
        self._queue.put(ending)

    def check(self) -> None:
        """Raises the StorageError that ended the thread."""
        if self._error is not None:
            raise self._error

    @property
    def is_idle(self) -> bool:
        """True where everything that was given is written."""
        return self._done == self._given

    def close(self) -> None:
        """Wait until everything is written. Raises StorageError where that failed."""
        self._queue.put(None)
        self._thread.join()
        self.check()

    def _run(self) -> None:
        while (first := self._queue.get()) is not None:
            group = [first]
            is_last = False
            while not self._queue.empty():
                following = self._queue.get()
                if following is None:
                    is_last = True
                    break
                group.append(following)
            try:
                self._write(group)
            except StorageError as error:
                self._error = error
                return
            self._done += len(group)
            if is_last:
                return

    def _write(self, group: Sequence[PendingWrite]) -> None:
        ends = [ending.end for ending in group]
        transactions = transactions_of(group[0].study)
        ended = retry_storage(lambda: transactions.finish(ends))
        for ending in group:
            ending.then(ending.end.trial_id in ended)
