"""Opening an Optuna storage so that nothing is lost and nobody waits for locks."""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy
import sqlalchemy.event
import sqlalchemy.exc
from optuna.storages import RDBStorage
from sqlalchemy.engine import make_url

from autotune.errors import StorageError
from autotune.studies.quick import QuickStorage

_BUSY_TIMEOUT_S = 60.0
_SQLITE_PREFIX = "sqlite:///"

optuna.logging.set_verbosity(optuna.logging.WARNING)
logging.getLogger("alembic").setLevel(logging.WARNING)


def storage_url(text: str) -> str:
    """A URL as it is; a plain path becomes a SQLite URL."""
    return text if "://" in text else f"{_SQLITE_PREFIX}{text}"


def sqlite_path(url: str) -> Path | None:
    """The database file of a SQLite URL; None for other databases."""
    return Path(url.removeprefix(_SQLITE_PREFIX)) if url.startswith(_SQLITE_PREFIX) else None


def public_url(url: str) -> str:
    """The URL without its password, for people and logs."""
    try:
        return make_url(url).render_as_string(hide_password=True)
    except sqlalchemy.exc.ArgumentError:
        return url.split("://", maxsplit=1)[0] + "://…"


def open_storage(text: str, *, create: bool) -> RDBStorage:
    """Open, and with ``create`` make, the storage at a URL or path.

    Raises StorageError where it is missing (without ``create``), no database, not writable, or
    was written by a newer Optuna.
    """
    url = storage_url(text)
    path = sqlite_path(url)
    if path is not None:
        _check_file(path, create=create)
    try:
        storage = QuickStorage(url, engine_kwargs=_engine_kwargs(path))
        if path is not None:
            _use_wal(storage)
    except (sqlalchemy.exc.NoSuchModuleError, sqlalchemy.exc.ArgumentError, ValueError) as error:
        raise StorageError(
            f"{public_url(url)!r} is no storage URL: {error}. Allowed are a file path, "
            "sqlite:///FILE or another SQLAlchemy URL; try --storage sqlite:///autotune.db"
        ) from error
    except ImportError as error:
        raise StorageError(
            f"{public_url(url)} needs a database driver that is not installed: {error}"
        ) from error
    except (sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        raise StorageError(
            f"{public_url(url)} cannot be opened: {_root_cause(error)}. "
            "Is it a database, and may you write it? Try another --storage"
        ) from error
    except RuntimeError as error:  # Optuna's word for a schema that it does not know
        raise StorageError(
            f"{public_url(url)} was written by another version of Optuna: {error}"
        ) from error
    return storage


@contextmanager
def reading(text: str) -> Iterator[sqlalchemy.Engine]:
    """The database of a storage, for who only looks: a fifth of a second sooner than Optuna's
    storage, which first checks its schema and loads what could migrate it.

    Raises StorageError where it is missing or no storage.
    """
    url = storage_url(text)
    path = sqlite_path(url)
    if path is not None:
        _check_file(path, create=False)
    try:
        engine = sqlalchemy.create_engine(url, **_engine_kwargs(path))
        with engine.connect() as connection:
            connection.execute(sqlalchemy.text("SELECT study_id FROM studies LIMIT 1"))
    except (sqlalchemy.exc.SQLAlchemyError, ImportError, ValueError) as error:
        raise StorageError(
            f"{public_url(url)} cannot be read: {_root_cause(error)}. "
            "Is it a storage of autotune? Try another --storage"
        ) from error
    try:
        yield engine
    finally:
        engine.dispose()


@contextmanager
def run_lock(url: str) -> Iterator[None]:
    """Hold the storage for one run: a second one on this machine gets a StorageError.

    The lock goes with the process, however it dies. Databases other than SQLite are not locked.
    """
    path = sqlite_path(storage_url(url))
    if path is None:
        yield
        return
    lock_path = path.with_name(path.name + ".lock")
    try:
        handle = lock_path.open("a+")
    except OSError as error:
        raise StorageError(f"{lock_path} cannot be written: {error.strerror}") from error
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            handle.seek(0)
            raise StorageError(
                f"{path} is in use by another run (process {handle.read().strip() or 'unknown'}). "
                "Wait for it, or use another --storage"
            ) from error
        handle.truncate(0)
        handle.write(str(os.getpid()))
        handle.flush()
        yield


def _check_file(path: Path, *, create: bool) -> None:
    if path.is_dir():
        raise StorageError(f"{path} is a folder; --storage takes a database file")
    if not path.exists() and not create:
        raise StorageError(f"there is no storage at {path}; start with 'autotune run', or name it")
    if not path.parent.is_dir():
        raise StorageError(f"the folder {path.parent} of the storage does not exist; make it first")
    writable = path if path.exists() else path.parent
    if not os.access(writable, os.W_OK):
        raise StorageError(f"{writable} is not writable; a storage must be. Try another --storage")


def _engine_kwargs(path: Path | None) -> dict[str, Any]:
    return {"connect_args": {"timeout": _BUSY_TIMEOUT_S}} if path is not None else {}


def _use_wal(storage: RDBStorage) -> None:
    """Readers never wait for the writer; a power cut may lose the last commits, a kill none."""

    def configure(connection: object, _record: object) -> None:
        cursor = connection.cursor()  # type: ignore[attr-defined]
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=NORMAL")
        cursor.close()

    sqlalchemy.event.listen(storage.engine, "connect", configure)
    storage.engine.dispose()
    with storage.engine.connect():
        pass


def _root_cause(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error)
