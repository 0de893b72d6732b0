"""Optuna's tables in a database: found, made once however many ask at once, never half migrated."""

from __future__ import annotations

import enum
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from optuna.storages import _rdb
from optuna.storages._rdb import models

from autotune.errors import StorageError
from autotune.intervals import POLL_S
from autotune.studies.storage.url import DatabaseAddress, SqliteAddress

STUDY: Any = models.StudyModel.__table__
STUDY_ATTR: Any = models.StudyUserAttributeModel.__table__
TRIAL: Any = models.TrialModel.__table__
VALUE: Any = models.TrialValueModel.__table__
PARAM: Any = models.TrialParamModel.__table__
ATTR: Any = models.TrialUserAttributeModel.__table__
SYSTEM: Any = models.TrialSystemAttributeModel.__table__
STEP: Any = models.TrialIntermediateValueModel.__table__
"""Optuna's private tables that are read and written here; their columns are its schema's."""
_TABLES = frozenset(models.BaseModel.metadata.tables)
_MARK = "alembic_version"

_PATIENCE_S = 60.0
_LOCK_KEY = 0x6175746F74756E65
"""The ASCII of ``autotune``: PostgreSQL's advisory locks have numbers."""


class Schema(enum.Enum):
    """The state of Optuna's tables in a database."""

    MISSING = "missing"
    """There are no tables of Optuna, or some: their maker died, or is still at it."""
    COMPLETE = "complete"
    """The mark that is written last is there; it says nothing of the version."""
    ANCIENT = "ancient"
    """An Optuna before 1.2 made them, which had no such mark."""


def schema_of(engine: sa.Engine) -> Schema:
    """Look for Optuna's tables and change nothing. Raises SQLAlchemyError if that is impossible."""
    with engine.connect() as connection:
        tables = set(sa.inspect(connection).get_table_names())
        if _MARK in tables and _first(connection, "SELECT version_num FROM {}"):
            return Schema.COMPLETE
        if "version_info" not in tables:
            return Schema.MISSING
        version = _first(connection, "SELECT schema_version FROM {}", "version_info")
    return Schema.MISSING if version in (None, models.SCHEMA_VERSION) else Schema.ANCIENT


def missing_tables(engine: sa.Engine) -> list[str]:
    """Return the names of the tables of a complete schema that are not there, or of its mark that
    is empty. Raises SQLAlchemyError if that is impossible."""
    mark = {_MARK} if schema_of(engine) is Schema.MISSING else set()
    with engine.connect() as connection:
        return sorted(_TABLES - set(sa.inspect(connection).get_table_names()) | mark)


class Age(enum.Enum):
    """The age of a complete schema, seen from the installed Optuna."""

    CURRENT = "current"
    OLDER = "older"
    NEWER = "newer"


def version_of(engine: sa.Engine) -> tuple[str, Age]:
    """Return the version of a complete schema. Raises SQLAlchemyError if it cannot be read."""
    from alembic.script import ScriptDirectory  # a tenth of a second: not for ``status``

    with engine.connect() as connection:
        version = str(_first(connection, "SELECT version_num FROM {}"))
    known = ScriptDirectory(str(Path(_rdb.__file__).parent / "alembic"))
    if version == known.get_current_head():
        return version, Age.CURRENT
    revisions = {script.revision for script in known.walk_revisions()}
    return version, Age.OLDER if version in revisions else Age.NEWER


@contextmanager
def creating(engine: sa.Engine, address: DatabaseAddress) -> Iterator[None]:
    """Hold the lock that one process at a time needs to make tables. It goes with a killed process.

    The folder of a SQLite file is locked, so that no lock file is left. Raises StorageError if
    another process holds it for a minute.
    """
    if isinstance(address, SqliteAddress):
        with _folder_locked(address.path.parent):
            yield
    else:
        with engine.begin() as connection:  # a pooler may hand out connections by transaction
            connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK_KEY})
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
                    raise StorageError(
                        f"another process has been making a storage in {folder} for "
                        f"{_PATIENCE_S:.0f} s. Is it stopped? End it and try again"
                    ) from None
                time.sleep(POLL_S)
        yield
    finally:
        os.close(descriptor)


def _first(connection: sa.Connection, query: str, table: str = _MARK) -> object:
    return connection.execute(sa.text(query.format(table))).scalar()
