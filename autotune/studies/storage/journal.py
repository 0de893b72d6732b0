"""Optuna's journal: a file that survives a writer's death, and a trial's moments in it.

A journal has no transactions. Lamport's bakery stands in for them, with the trial's number as the
ticket: a worker first creates its trial, running and with its parameters, then reads the study, and
gives up what another with a lower number has. Of any two, one was created first, and the other
one's reading comes after both.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.storages.journal._file import get_lock_file
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from autotune.errors import StorageError
from autotune.intervals import POLL_S
from autotune.studies.storage.protocol import (
    FIXED,
    WORKER,
    Asked,
    Distributions,
    Params,
    Stand,
    Tally,
    TrialEnd,
    TrialTransactions,
    asked_of,
    queued_trial,
    running_trials,
)
from autotune.studies.trial_record import config_of

_CHUNK = 1 << 16
_HALF_MADE_S = 5.0
"""Seconds to wait for the parameters of a trial that somebody took from the queue before us."""


def open_journal(path: Path) -> JournalStorage:
    """Open a journal, and make it if it is missing. Raises StorageError if the file is no journal,
    or damaged, and OSError."""
    try:
        return JournalStorage(JournalFile(path))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        line = _first_bad_line(path)
        where = f"line {line} cannot be read" if line else f"{error!r}"
        keep = f". 'head -n {line - 1} {path} > NEW' keeps what is before it" if line > 1 else ""
        raise StorageError(f"{path} is no journal of Optuna, or damaged: {where}{keep}") from error


class JournalFile(JournalFileBackend):
    """A journal whose last line may be torn: the rest of it is cut off before more is written.

    Optuna's own would write on behind a torn line, and nobody could read the file any more.

    The lock is made by O_EXCL, which NFSv3 and later keep. Optuna's other one, a symbolic link,
    is for NFSv2; it looks at its age through the link, which no relative path survives.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(str(path), JournalFileOpenLock(str(path)))
        self._path = path

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Append lines. Raises StorageInternalError if the disk refuses."""
        text = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs)
        try:
            with get_lock_file(self._lock):
                cut_torn_line(self._path)
                with self._path.open("ab") as file:
                    file.write(text.encode())
                    file.flush()
                    os.fsync(file.fileno())
        except OSError as error:
            raise StorageInternalError(
                f"{self._path} cannot be written: {error.strerror or error}"
            ) from error


def cut_torn_line(path: Path) -> int:
    """Cut off the bytes after the last line end, and return how many they were.

    Only for the holder of the journal's lock: it would cut a line that is being written.
    """
    with path.open("rb+") as file:
        size = end = file.seek(0, os.SEEK_END)
        while end:
            start = max(0, end - _CHUNK)
            file.seek(start)
            newline = file.read(end - start).rfind(b"\n")
            if newline >= 0:
                end = start + newline + 1
                break
            end = start
        if end < size:
            file.truncate(end)
    return size - end


def _first_bad_line(path: Path) -> int:
    """Return the number of the first line, from 1, that is no JSON object; 0 for none."""
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                if not isinstance(json.loads(line), dict):
                    return number
            except ValueError:
                return number
    return 0


class JournalTransactions(TrialTransactions):
    """Transactions in any storage of Optuna's, by its public methods alone."""

    signs_at_once = False

    def __init__(self, storage: BaseStorage) -> None:
        self.storage = storage

    def begin(
        self,
        study: Study,
        distributions: Distributions,
        params: Sequence[Params],
        worker: str,
        stand: Stand,
    ) -> list[Asked]:
        templates = running_trials(distributions, params, worker)
        ids = [self.storage.create_new_trial(study._study_id, trial) for trial in templates]
        number_of = self.storage.get_trial_number_from_id
        asked = [asked_of(p, i, number_of(i)) for p, i in zip(params, ids, strict=True)]
        return self._standing(study, asked, stand) if asked else []

    def queue(self, study: Study, choose: Callable[[], Sequence[tuple[Params, Params]]]) -> None:
        for params, attrs in choose():
            self.storage.create_new_trial(study._study_id, queued_trial(params, attrs))

    def finish(self, ends: Collection[TrialEnd]) -> set[int]:
        return {end.trial_id for end in ends if self._finish(end)}

    def give_back(
        self, study: Study, trial: FrozenTrial, user_attrs: Mapping[str, Any] | None
    ) -> bool:
        is_ours = self._finish(TrialEnd(trial._trial_id, TrialState.FAIL))
        if is_ours and user_attrs is not None:
            self.queue(study, lambda: [(trial.params, user_attrs)])
        return is_ours

    def tallies(self, studies: Collection[Study]) -> list[Tally]:
        return [_tally(study.get_trials(deepcopy=False)) for study in studies]

    def _start(self, trial: FrozenTrial, distributions: Distributions, worker: str) -> bool:
        trial_id, params = trial._trial_id, trial.system_attrs[FIXED]
        try:
            if not self.storage.set_trial_state_values(trial_id, TrialState.RUNNING):
                return False
        except UpdateFinishedTrialError:
            return False
        self.storage.set_trial_user_attr(trial_id, WORKER, worker)
        for name, distribution in distributions.items():
            value = distribution.to_internal_repr(params[name])
            self.storage.set_trial_param(trial_id, name, value, distribution)
        return True

    def _standing(self, study: Study, asked: Sequence[Asked], stand: Stand) -> list[Asked]:
        _wait_for_half_made(study, max(each.number for each in asked))
        return super()._standing(study, asked, stand)

    def _finish(self, end: TrialEnd) -> bool:
        try:
            for key, value in end.user_attrs.items():
                self.storage.set_trial_user_attr(end.trial_id, key, value)
            if end.value is not None and end.state == TrialState.PRUNED:
                self.storage.set_trial_intermediate_value(end.trial_id, 0, end.value)
            values = None if end.value is None else [end.value]
            self.storage.set_trial_state_values(end.trial_id, end.state, values)
        except UpdateFinishedTrialError:
            return False
        return True


def _wait_for_half_made(study: Study, last: int) -> None:
    """Wait until each running trial before ``last`` shows its parameters, or a while has passed."""
    until = time.monotonic() + _HALF_MADE_S
    while time.monotonic() < until:
        running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        if not any(trial.number < last and config_of(trial) is None for trial in running):
            return
        time.sleep(POLL_S)


def _tally(trials: Sequence[FrozenTrial]) -> Tally:
    counts = Counter(trial.state for trial in trials)
    running = [trial for trial in trials if trial.state == TrialState.RUNNING]
    return Tally(
        measured=counts[TrialState.COMPLETE] + counts[TrialState.PRUNED],
        waiting=counts[TrialState.WAITING],
        running=len(running),
        workers=frozenset(str(trial.user_attrs.get(WORKER, "")) for trial in running),
    )
