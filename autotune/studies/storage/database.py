"""A SQLite file or a database on a server, opened as Optuna's storage."""

from __future__ import annotations

import logging
from typing import Any

import sqlalchemy
import sqlalchemy.event
from optuna.storages import RDBStorage

from autotune.errors import MissingStorageError, StorageError
from autotune.studies.storage.fast_rdb import FastRDBStorage
from autotune.studies.storage.schema import Age, Schema, creating, schema_of, version_of
from autotune.studies.storage.url import (
    DatabaseAddress,
    ServerAddress,
    SqliteAddress,
    StorageAddress,
)

_BUSY_TIMEOUT_S = 60.0
_CONNECT_TIMEOUT_S = 10
_DRIVERS_WITH_TIMEOUT = ("psycopg", "psycopg2")

logging.getLogger("alembic").setLevel(logging.WARNING)


def open_database(address: DatabaseAddress, *, create: bool) -> RDBStorage:
    """Open, and with ``create`` make, a SQLite file or a database on a server.

    Raises StorageError as ``open_storage`` does, and the errors of SQLAlchemy and of drivers.
    """
    kwargs = engine_kwargs(address)
    engine = sqlalchemy.create_engine(address.url, **kwargs)
    try:
        found = schema_of(engine)
        if found is Schema.MISSING and create:
            with creating(engine, address):
                storage = raw_storage(address, kwargs, create=True)
        elif found is Schema.MISSING:
            raise missing(address)
        else:
            check_version(engine, address)
            storage = raw_storage(address, kwargs)
        if isinstance(address, SqliteAddress):
            _persist_wal(engine, address)
    finally:
        engine.dispose()
    if isinstance(address, SqliteAddress):
        sqlalchemy.event.listen(storage.engine, "connect", _sync_less)
        storage.engine.dispose()
    return storage


def raw_storage(
    address: DatabaseAddress, kwargs: dict[str, Any], *, create: bool = False
) -> RDBStorage:
    """Return Optuna's storage, whatever version its schema has. If the schema is not complete,
    Optuna writes its version even without ``create``."""
    return FastRDBStorage(
        address.url.render_as_string(hide_password=False),
        engine_kwargs=kwargs,
        skip_compatibility_check=True,
        skip_table_creation=not create,
    )


def check_version(engine: sqlalchemy.Engine, address: DatabaseAddress) -> None:
    """Raise StorageError unless the schema, which must be there, is the installed Optuna's."""
    if schema_of(engine) is Schema.ANCIENT:
        version, age = "from before Optuna 1.2", Age.OLDER
    else:
        version, age = version_of(engine)
    if age is Age.OLDER:
        raise StorageError(
            f"{address.public} was written by an older version of Optuna (schema {version}): "
            "nothing was changed. Use 'autotune storage upgrade', which makes a backup first, or "
            "another --storage"
        )
    if age is Age.NEWER:
        raise StorageError(
            f"{address.public} was written by a newer version of Optuna (schema {version}): "
            "nothing was changed. Upgrade Optuna, or use another --storage"
        )


def missing(address: StorageAddress) -> MissingStorageError:
    """Return the error for a storage that nobody has made."""
    where = address.public if isinstance(address, ServerAddress) else address.path
    return MissingStorageError(
        f"there is no storage at {where}; start with 'autotune run', or name it"
    )


def engine_kwargs(address: DatabaseAddress) -> dict[str, Any]:
    """Return SQLAlchemy's options. SQLite waits for locks. A server's connections are looked at
    before they are used (it may have restarted), and are few: hundreds of workers may share a
    server's hundred."""
    if isinstance(address, SqliteAddress):
        return {"connect_args": {"timeout": _BUSY_TIMEOUT_S}}
    driver = address.url.drivername.partition("+")[2]
    connect = {"connect_timeout": _CONNECT_TIMEOUT_S} if driver in _DRIVERS_WITH_TIMEOUT else {}
    return {
        "pool_pre_ping": True,
        "pool_size": 2,
        "max_overflow": 8,
        "hide_parameters": True,
        "connect_args": connect,
    }


def _persist_wal(engine: sqlalchemy.Engine, address: SqliteAddress) -> None:
    """Let readers never wait for the writer. The file remembers it; two must not switch at once."""
    with engine.connect() as connection:
        if connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal":
            return
        with creating(engine, address):
            connection.exec_driver_sql("PRAGMA journal_mode=WAL")


def _sync_less(connection: Any, _record: object) -> None:
    """Sync less often: with WAL, a power cut may lose the last commits, a kill none."""
    cursor = connection.cursor()
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.close()
