"""Checking a storage: its kind, its schema, its soundness and its trials, however old it is."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import sqlalchemy as sa
from optuna.storages import BaseStorage
from optuna.study._frozen import FrozenStudy
from optuna.trial import TrialState

from autotune.studies.storage.database import engine_kwargs
from autotune.studies.storage.open import (
    checked_address,
    close_storage,
    explained,
    open_storage,
)
from autotune.studies.storage.retry import RECOVER, error_words
from autotune.studies.storage.schema import Age, Schema, schema_of, version_of
from autotune.studies.storage.url import (
    DatabaseAddress,
    JournalAddress,
    ServerAddress,
    SqliteAddress,
    StorageAddress,
)
from autotune.studies.study_record import LAYOUT, StudyAttributes

_STALE = datetime.timedelta(hours=1)
"""The age at which a running trial counts as left by a dead run: none takes so long."""


_RUNNING = TrialState.RUNNING
_ADVICE = {
    Age.CURRENT: "",
    Age.OLDER: ", older than this one's: 'autotune storage upgrade'",
    Age.NEWER: ", newer than this one: upgrade Optuna",
}


@dataclass(frozen=True, slots=True)
class StorageFinding:
    """One line of the check. A ``fault`` is a reason to act; a ``doubt`` is a warning."""

    what: str
    detail: str
    fault: bool = False
    doubt: bool = False


def check_storage(text: str) -> list[StorageFinding]:
    """Look at everything and change nothing. Raises StorageError if the storage cannot be read."""
    address = checked_address(text)
    found = [StorageFinding("storage", f"{address.public}, a {address.kind}{_size(address)}")]
    if not isinstance(address, JournalAddress):
        with explained(address):
            engine = sa.create_engine(address.url, **engine_kwargs(address))
            try:
                found += _of_database(engine, address)
            except sa.exc.DatabaseError as error:
                if isinstance(address, ServerAddress):
                    raise
                found.append(
                    StorageFinding("integrity", f"{error_words(error)}; {RECOVER}", fault=True)
                )
            finally:
                engine.dispose()
        if any(finding.fault for finding in found):
            return found
    storage = open_storage(text, create=False)  # of a journal this reads, and checks, every line
    try:
        return [*found, *_of_studies(storage)]
    finally:
        close_storage(storage)


def _size(address: StorageAddress) -> str:
    if isinstance(address, ServerAddress):
        return ""
    return f", {address.path.stat().st_size / 2**20:.1f} MiB"


def _of_database(engine: sa.Engine, address: DatabaseAddress) -> Iterator[StorageFinding]:
    with engine.connect() as connection:
        if isinstance(address, SqliteAddress):
            faults = [row[0] for row in connection.exec_driver_sql("PRAGMA integrity_check")]
            sound = faults == ["ok"]
            yield StorageFinding("integrity", "; ".join(faults[:5]), fault=not sound)
            mode = connection.exec_driver_sql("PRAGMA journal_mode").scalar()
            yield StorageFinding("journal mode", f"{mode}")
    schema = schema_of(engine)
    if schema is not Schema.COMPLETE:
        yield StorageFinding("schema", f"Optuna's tables: {schema.value}", fault=True)
        return
    version, age = version_of(engine)
    with engine.connect() as connection:
        made_by = connection.exec_driver_sql("SELECT library_version FROM version_info").scalar()
    words = f"{version}, of Optuna {made_by}{_ADVICE[age]}"
    yield StorageFinding("schema", words, fault=age is not Age.CURRENT)


def _of_studies(storage: BaseStorage) -> Iterator[StorageFinding]:
    studies = storage.get_all_studies()
    layouts = Counter(_layout(study) for study in studies)
    others = layouts.pop(0, 0)
    newer = [layout for layout in layouts if layout > LAYOUT]
    detail = ", ".join(f"{count} of layout {layout}" for layout, count in sorted(layouts.items()))
    words = f"{detail or 'none of ours'}{f', {others} of others' if others else ''}"
    yield StorageFinding("studies", words, fault=bool(newer))
    states: Counter[TrialState] = Counter()
    begun: list[datetime.datetime] = []  # of ours: other people's trials are their affair
    for study in studies:
        trials = storage.get_all_trials(study._study_id, deepcopy=False)
        states.update(trial.state for trial in trials)
        if StudyAttributes(study.user_attrs).is_ours:
            begun += [t.datetime_start for t in trials if t.state == _RUNNING and t.datetime_start]
    words = ", ".join(f"{n} {state.name.lower()}" for state, n in sorted(states.items()))
    yield StorageFinding("trials", words or "none")
    yield _in_work(begun)


def _layout(study: FrozenStudy) -> int:
    attrs = StudyAttributes(study.user_attrs)
    return attrs.layout if attrs.is_ours else 0


def _in_work(begun: list[datetime.datetime]) -> StorageFinding:
    if not begun:
        return StorageFinding("in work", "nothing")
    oldest = min(begun)
    stale = datetime.datetime.now() - oldest > _STALE
    words = f"{len(begun)} trials, the oldest since {oldest:%Y-%m-%d %H:%M:%S}"
    more = ": left by a dead run, the next one asks it again" if stale else ""
    return StorageFinding("in work", words + more, doubt=stale)
