"""What a storage is made of and whether it is sound, however old it is."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import sqlalchemy as sa
from optuna.storages import BaseStorage
from optuna.trial import TrialState

from autotune.studies.storage.database import engine_kwargs
from autotune.studies.storage.open import (
    checked_address,
    close_storage,
    explained,
    fault_words,
    open_storage,
)
from autotune.studies.storage.schema import Age, Schema, schema_of, version_of
from autotune.studies.storage.url import StorageAddress, StorageKind
from autotune.studies.study_record import LAYOUT

_STALE = datetime.timedelta(hours=1)
"""No trial takes so long: whoever had it is gone."""


_RUNNING = TrialState.RUNNING
_MEND = "go on with a backup, or save what is there by 'sqlite3 FILE .recover'"
_ADVICE = {
    Age.CURRENT: "",
    Age.OLDER: ", older than this one's: 'autotune storage upgrade'",
    Age.NEWER: ", newer than this one: upgrade Optuna",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One line; ``fault`` is a reason to act, a warning otherwise where ``doubt``."""

    what: str
    detail: str
    fault: bool = False
    doubt: bool = False


def condition(text: str) -> list[Finding]:
    """Look at everything, change nothing. Raises StorageError where it cannot be looked at."""
    address = checked_address(text)
    found = [Finding("storage", f"{address.public}, a {address.kind.value}{_size(address)}")]
    if address.url is not None:
        with explained(address):
            engine = sa.create_engine(address.url, **engine_kwargs(address))
            try:
                found += _of_database(engine, address)
            except sa.exc.DatabaseError as error:
                if address.kind is StorageKind.SERVER:
                    raise
                found.append(Finding("integrity", f"{fault_words(error)}; {_MEND}", fault=True))
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
    return f", {address.path.stat().st_size / 2**20:.1f} MiB" if address.path is not None else ""


def _of_database(engine: sa.Engine, address: StorageAddress) -> Iterator[Finding]:
    with engine.connect() as connection:
        if address.kind is StorageKind.SQLITE:
            faults = [row[0] for row in connection.exec_driver_sql("PRAGMA integrity_check")]
            sound = faults == ["ok"]
            yield Finding("integrity", "; ".join(faults[:5]), fault=not sound)
            mode = connection.exec_driver_sql("PRAGMA journal_mode").scalar()
            yield Finding("journal mode", f"{mode}")
    schema = schema_of(engine)
    if schema is not Schema.COMPLETE:
        yield Finding("schema", f"Optuna's tables: {schema.value}", fault=True)
        return
    version, age = version_of(engine)
    with engine.connect() as connection:
        made_by = connection.exec_driver_sql("SELECT library_version FROM version_info").scalar()
    words = f"{version}, of Optuna {made_by}{_ADVICE[age]}"
    yield Finding("schema", words, fault=age is not Age.CURRENT)


def _of_studies(storage: BaseStorage) -> Iterator[Finding]:
    studies = storage.get_all_studies()
    layouts = Counter(int(study.user_attrs.get("layout", 0)) for study in studies)
    others = layouts.pop(0, 0)
    newer = [layout for layout in layouts if layout > LAYOUT]
    detail = ", ".join(f"{count} of layout {layout}" for layout, count in sorted(layouts.items()))
    words = f"{detail or 'none of ours'}{f', {others} of others' if others else ''}"
    yield Finding("studies", words, fault=bool(newer))
    states: Counter[TrialState] = Counter()
    begun: list[datetime.datetime] = []  # of ours: other people's trials are their affair
    for study in studies:
        trials = storage.get_all_trials(study._study_id, deepcopy=False)
        states.update(trial.state for trial in trials)
        if "layout" in study.user_attrs:
            begun += [t.datetime_start for t in trials if t.state == _RUNNING and t.datetime_start]
    words = ", ".join(f"{n} {state.name.lower()}" for state, n in sorted(states.items()))
    yield Finding("trials", words or "none")
    yield _in_work(begun)


def _in_work(begun: list[datetime.datetime]) -> Finding:
    if not begun:
        return Finding("in work", "nothing")
    oldest = min(begun)
    stale = datetime.datetime.now() - oldest > _STALE
    words = f"{len(begun)} trials, the oldest since {oldest:%Y-%m-%d %H:%M:%S}"
    more = ": left by a dead run, the next one asks it again" if stale else ""
    return Finding("in work", words + more, doubt=stale)
