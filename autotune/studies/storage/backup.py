"""Copies of storages in use, and upgrading an old one after such a copy."""

from __future__ import annotations

import contextlib
import datetime
import io
import os
import secrets
import shutil
import sqlite3
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import optuna
import sqlalchemy

from autotune.errors import MissingStorageError, StorageError
from autotune.studies.storage.database import check_version, engine_kwargs, raw_storage
from autotune.studies.storage.journal import cut_torn_line
from autotune.studies.storage.open import checked_address, close_storage, explained, open_storage
from autotune.studies.storage.retry import RECOVER
from autotune.studies.storage.schema import Age, Schema, creating, schema_of, version_of
from autotune.studies.storage.url import (
    DatabaseAddress,
    JournalAddress,
    ServerAddress,
    SqliteAddress,
    StorageAddress,
)

_PATIENCE_S = 60.0
DUMP_TOOL = "pg_dump"
"""PostgreSQL's program that makes an exact copy of a database."""


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
        engine = sqlalchemy.create_engine(address.url, **engine_kwargs(address))
        try:
            if schema_of(engine) is Schema.MISSING:
                raise MissingStorageError(f"there is no storage at {address.public} to upgrade")
            return _upgraded(engine, text, address, backed_up=backed_up)
        finally:
            engine.dispose()


def _upgraded(
    engine: sqlalchemy.Engine, text: str, address: DatabaseAddress, *, backed_up: bool
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
    source = open_storage(text, create=False)
    target = open_storage(str(fresh), create=True)
    try:
        for study in source.get_all_studies():
            optuna.copy_study(
                from_study_name=study.study_name, from_storage=source, to_storage=target
            )
    finally:
        close_storage(source)
        close_storage(target)


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
