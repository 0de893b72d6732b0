"""Optuna's tables in a database: found, made once however many ask at once, never half migrated."""

from __future__ import annotations

import enum
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa
from optuna.storages import _rdb
from optuna.storages._rdb.models import SCHEMA_VERSION

from autotune.errors import StorageError
from autotune.intervals import POLL_S

_PATIENCE_S = 60.0
_LOCK_NAME = "autotune.schema"
_LOCK_KEY = 0x6175746F74756E65
"""The ASCII of ``autotune``: PostgreSQL's advisory locks have numbers."""


class Schema(enum.Enum):
    """What a database holds."""

    MISSING = "missing"
    """No tables of Optuna, or some: whoever makes them died, or is still at it."""
    COMPLETE = "complete"
    """With the mark that is written last. Which version is not said."""
    ANCIENT = "ancient"
    """Of an Optuna before 1.2, which had no such mark."""


def schema_of(engine: sa.Engine) -> Schema:
    """Look without changing anything. Raises SQLAlchemyError where that is impossible."""
    with engine.connect() as connection:
        tables = set(sa.inspect(connection).get_table_names())
        if "alembic_version" in tables and _first(connection, "SELECT version_num FROM {}"):
            return Schema.COMPLETE
        if "version_info" not in tables:
            return Schema.MISSING
        version = _first(connection, "SELECT schema_version FROM {}", "version_info")
    return Schema.MISSING if version in (None, SCHEMA_VERSION) else Schema.ANCIENT


class Age(enum.Enum):
    """Of a complete schema, as this Optuna sees it."""

    CURRENT = "current"
    OLDER = "older"
    NEWER = "newer"


def version_of(engine: sa.Engine) -> tuple[str, Age]:
    """The version of a complete schema. Raises SQLAlchemyError where it cannot be read."""
    from alembic.script import ScriptDirectory  # a tenth of a second: not for ``status``

    with engine.connect() as connection:
        version = str(_first(connection, "SELECT version_num FROM {}"))
    known = ScriptDirectory(str(Path(_rdb.__file__).parent / "alembic"))
    if version == known.get_current_head():
        return version, Age.CURRENT
    revisions = {script.revision for script in known.walk_revisions()}
    return version, Age.OLDER if version in revisions else Age.NEWER


@contextmanager
def creating(engine: sa.Engine, path: Path | None) -> Iterator[None]:
    """Hold what only one process at a time may: making tables. Goes with a killed process.

    ``path`` is that of a SQLite file: its folder is locked, so that no lock file is left. Raises
    StorageError where another process holds it for a minute.
    """
    if path is not None:
        with _folder_locked(path.parent):
            yield
    elif engine.dialect.name in ("mysql", "mariadb"):
        with engine.connect() as connection:
            words = sa.text("SELECT GET_LOCK(:name, :seconds)")
            got = connection.execute(words, {"name": _LOCK_NAME, "seconds": _PATIENCE_S}).scalar()
            if not got:
                raise StorageError(_waited("the database"))
            try:
                yield
            finally:
                connection.execute(sa.text("SELECT RELEASE_LOCK(:name)"), {"name": _LOCK_NAME})
    elif engine.dialect.name == "postgresql":
        with engine.begin() as connection:  # a pooler may hand out connections by transaction
            connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK_KEY})
            yield
    else:
        yield


@contextmanager
def _folder_locked(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY)
    deadline = time.monotonic() + _PATIENCE_S
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise StorageError(_waited(str(folder))) from None
                time.sleep(POLL_S)
        yield
    finally:
        os.close(descriptor)


def _waited(where: str) -> str:
    return (
        f"another process has been making a storage in {where} for {_PATIENCE_S:.0f} s. "
        "Is it stopped? End it and try again"
    )


def _first(connection: sa.Connection, query: str, table: str = "alembic_version") -> object:
    return connection.execute(sa.text(query.format(table))).scalar()
