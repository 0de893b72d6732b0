"""Looking after a storage: is it sound, copying it while it is in use, upgrading an old one."""

from __future__ import annotations

import contextlib
import datetime
import io
import logging
import os
import secrets
import shutil
import sqlite3
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import optuna
import sqlalchemy as sa
from optuna.storages import BaseStorage
from optuna.trial import TrialState

from autotune.errors import MissingStorageError, StorageError
from autotune.shown import counted
from autotune.studies.coordination.leases import LEASES
from autotune.studies.storage.database import check_version, engine_kwargs, raw_storage
from autotune.studies.storage.journal import cut_torn_line
from autotune.studies.storage.open import checked_address, explained, opened
from autotune.studies.storage.raw import raw_studies, raw_trials
from autotune.studies.storage.retry import DAMAGE, RECOVER, error_words
from autotune.studies.storage.schema import Age, Schema, creating, schema_of, version_of
from autotune.studies.storage.url import (
    DatabaseAddress,
    JournalAddress,
    ServerAddress,
    SqliteAddress,
    StorageAddress,
)
from autotune.studies.study_attributes import StudyAttributes

_log = logging.getLogger(__name__)
_PATIENCE_S = 60.0
DUMP_TOOL = "pg_dump"
"""PostgreSQL's program that makes an exact copy of a database."""
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
    size = ""
    if not isinstance(address, ServerAddress):
        size = f", {address.path.stat().st_size / 2**20:.1f} MiB"
    found = [StorageFinding("storage", f"{address.public}, a {address.kind}{size}")]
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
    with opened(text) as storage:  # of a journal this reads, and checks, every line
        return [*found, *_of_studies(storage)]


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
    studies = {raw.name: (raw, StudyAttributes(raw.attrs)) for raw in raw_studies(storage)}
    ours = {name for name, (_, attrs) in studies.items() if attrs.is_ours}
    faults = {name: fault for name in ours if (fault := studies[name][1].fault) is not None}
    others = len(studies.keys() - ours - {LEASES})
    sound = f"{len(ours - faults.keys())} of ours" if ours - faults.keys() else "none of ours"
    yield StorageFinding("studies", f"{sound}{f', {others} of others' if others else ''}")
    states: Counter[TrialState] = Counter()
    begun: list[datetime.datetime] = []  # of ours: other people's trials are their affair
    for name, (raw, _) in studies.items():
        try:
            trials = raw_trials(storage, raw.study_id)
        except DAMAGE as error:
            faults.setdefault(name, f"its trials cannot be read: {error!r:.200}")
            continue
        if name != LEASES:
            states.update(trial.state for trial in trials)
        if name in ours:
            begun += [t.datetime_start for t in trials if t.state == _RUNNING and t.datetime_start]
    for name, fault in faults.items():
        yield StorageFinding("left out", f"study {name!r}: {fault}", doubt=True)
    words = ", ".join(f"{n} {state.name.lower()}" for state, n in sorted(states.items()))
    yield StorageFinding("trials", words or "none")
    yield _in_work(begun)


def _in_work(begun: list[datetime.datetime]) -> StorageFinding:
    if not begun:
        return StorageFinding("in work", "nothing")
    oldest = min(begun)
    stale = datetime.datetime.now() - oldest > _STALE
    words = f"{counted(len(begun), 'trial')}, the oldest since {oldest:%Y-%m-%d %H:%M:%S}"
    more = ": left by a dead run, the next one asks it again" if stale else ""
    return StorageFinding("in work", words + more, doubt=stale)


def back_up(text: str, target: Path | None = None) -> Path:
    """Copy the storage while others write to it, and return the copy's path.

    A SQLite file is copied as it is at one moment, a journal up to its last whole line. A server's
    database is copied study by study into a new SQLite file: each study as it is when its turn
    comes. ``target`` is by default beside the file, or in the current folder, named by the time.
    Raises StorageError if it exists, or if either cannot be read or written.
    """
    address = checked_address(text)
    target = target or _dated(address)
    if target.exists():
        raise StorageError(f"{target} exists; a backup overwrites nothing. Name another file")
    with explained(address), _replacing(target) as fresh:
        if isinstance(address, SqliteAddress):
            _copy_sqlite(address.path, fresh)
        elif isinstance(address, JournalAddress):
            shutil.copyfile(address.path, fresh)
            cut_torn_line(fresh)
        else:
            _copy_studies(text, fresh)
    return target


def upgrade(text: str, *, backed_up: bool = False) -> tuple[str, Path | None]:
    """Bring an older Optuna's schema up to the installed one's. Return the version, and the
    backup's path.

    A SQLite file is copied first. ``backed_up`` says that somebody has copied a server's database.
    Raises StorageError if the schema is newer, there is none, or there is no copy.
    """
    address = checked_address(text)
    if isinstance(address, JournalAddress):
        raise StorageError(f"{address.public} has no schema: there is nothing to upgrade")
    with explained(address):
        engine = sa.create_engine(address.url, **engine_kwargs(address))
        try:
            if schema_of(engine) is Schema.MISSING:
                raise MissingStorageError(f"there is no storage at {address.public} to upgrade")
            return _upgraded(engine, text, address, backed_up=backed_up)
        finally:
            engine.dispose()


def _upgraded(
    engine: sa.Engine, text: str, address: DatabaseAddress, *, backed_up: bool
) -> tuple[str, Path | None]:
    if schema_of(engine) is Schema.COMPLETE:
        version, age = version_of(engine)
        if age is Age.CURRENT:
            return version, None
        if age is Age.NEWER:
            check_version(engine, address)  # raises
    if isinstance(address, ServerAddress) and not backed_up:
        raise StorageError(
            f"a backup comes first: make one of {address.public} with {DUMP_TOOL}, then say "
            "--backed-up"
        )
    copy = back_up(text) if isinstance(address, SqliteAddress) else None
    with creating(engine, address), _hushed():
        raw_storage(address, engine_kwargs(address)).upgrade()
    check_version(engine, address)
    return version_of(engine)[0], copy


@contextmanager
def _hushed() -> Iterator[None]:
    """Silence Alembic, which tells every step on stderr, and Optuna's warnings of its old names."""
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


def _copy_sqlite(source: Path, fresh: Path) -> None:
    try:
        with (
            closing(sqlite3.connect(source, timeout=_PATIENCE_S)) as old,
            closing(sqlite3.connect(fresh)) as new,
        ):
            old.backup(new)
            found = new.execute("PRAGMA integrity_check").fetchone()[0]
    except sqlite3.Error as error:
        found = str(error)
    if found != "ok":
        raise StorageError(f"{source} cannot be copied: {found}. If it is damaged, {RECOVER}")


def _copy_studies(text: str, fresh: Path) -> None:
    with opened(text) as source, opened(str(fresh), create=True) as target:
        for study in raw_studies(source):
            try:
                optuna.copy_study(
                    from_study_name=study.name, from_storage=source, to_storage=target
                )
            except DAMAGE as error:
                _log.warning("left out: study %r cannot be copied: %.200r", study.name, error)


@contextmanager
def _replacing(target: Path) -> Iterator[Path]:
    """Yield a file that becomes ``target`` when all went well, and is gone otherwise."""
    fresh = target.with_name(f".{secrets.token_hex(8)}.backup")
    try:
        yield fresh
        with fresh.open("rb") as file:
            os.fsync(file.fileno())
        fresh.rename(target)
    finally:
        for left in target.parent.glob(f"{fresh.name}*"):  # SQLite's own files beside it
            left.unlink()


def _dated(address: StorageAddress) -> Path:
    place = Path("autotune.db") if isinstance(address, ServerAddress) else address.path
    when = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    return place.with_name(f"{place.stem}-{when}{place.suffix}")
