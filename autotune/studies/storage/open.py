"""Opening a storage of any kind so that nothing is lost and nobody waits for locks."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import optuna
import sqlalchemy
import sqlalchemy.exc
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.storages import BaseStorage, GrpcStorageProxy, RDBStorage

from autotune.errors import StorageError
from autotune.studies.storage.database import engine_kwargs, missing, open_database
from autotune.studies.storage.filesystems import network_disk
from autotune.studies.storage.journal import open_journal
from autotune.studies.storage.schema import Schema, schema_of
from autotune.studies.storage.url import ALLOWED, StorageAddress, StorageKind, parse_address

_CONNECT_TIMEOUT_S = 10
_EXTRAS = {"postgresql": "postgres", "mysql": "mysql"}
"""Backend → our extra that brings its driver."""

optuna.logging.set_verbosity(optuna.logging.WARNING)


def storage_url(text: str) -> str:
    """A URL as it is; a plain path becomes a SQLite URL."""
    is_url = "://" in text or parse_address(text).kind is StorageKind.JOURNAL
    return text if is_url else f"sqlite:///{text}"


def sqlite_path(url: str) -> Path | None:
    """The database file of a SQLite URL; None for other storages."""
    address = parse_address(url)
    return address.path if address.kind is StorageKind.SQLITE else None


def public_url(url: str) -> str:
    """The URL without its password, for people and logs."""
    try:
        return parse_address(url).public
    except StorageError:
        return url.split("://", maxsplit=1)[0] + "://…"


def open_storage(text: str, *, create: bool) -> BaseStorage:
    """Open, and with ``create`` make, the storage that ``--storage`` names; ``close_storage``
    ends it. Any number of processes may open, and make, the same one at the same time.

    Raises StorageError where it is missing (MissingStorageError, without ``create``), no storage,
    not writable, on a network disk where it may not be, damaged, or of another Optuna's schema:
    nothing is changed then.
    """
    address = checked_address(text, create=create)
    with explained(address):
        if address.kind is StorageKind.JOURNAL:
            assert address.path is not None
            return open_journal(address.path.absolute())
        if address.kind is StorageKind.GRPC:
            return _grpc(address)
        return open_database(address, create=create)


def close_storage(storage: BaseStorage) -> None:
    """Give back what the storage holds: connections, or a channel."""
    storage.remove_session()
    if isinstance(storage, RDBStorage):
        storage.engine.dispose()
    elif isinstance(storage, GrpcStorageProxy):
        storage.close()


@contextmanager
def reading(text: str) -> Iterator[sqlalchemy.Engine | BaseStorage]:
    """A storage for who only looks: of a database its engine, a fifth of a second sooner than
    Optuna's storage, which first checks its schema and loads what could migrate it.

    Raises StorageError where it is missing or no storage.
    """
    address = parse_address(text)
    if address.url is None:
        storage = open_storage(text, create=False)
        try:
            yield storage
        finally:
            close_storage(storage)
        return
    checked_address(text)
    with explained(address):
        engine = sqlalchemy.create_engine(address.url, **engine_kwargs(address))
        try:
            with engine.connect() as connection:
                connection.execute(sqlalchemy.text("SELECT study_id FROM studies LIMIT 1"))
        except sqlalchemy.exc.DBAPIError:
            if schema_of(engine) is Schema.MISSING:
                raise missing(address) from None
            raise
    try:
        yield engine
    finally:
        engine.dispose()


def storage_faults() -> tuple[type[Exception], ...]:
    """What a storage in use may raise, whatever its kind."""
    found: tuple[type[Exception], ...] = (StorageInternalError, sqlalchemy.exc.SQLAlchemyError)
    grpc = sys.modules.get("grpc")  # not imported: then nothing of it can be raised
    return found if grpc is None else (*found, grpc.RpcError)


def fault_words(error: BaseException) -> str:
    """What went wrong, in the words of whoever saw it first, without a login."""
    while error.__cause__ is not None:
        error = error.__cause__
    details = getattr(error, "details", None)  # of gRPC
    return str(details() if callable(details) else error).strip()


def checked_address(text: str, *, create: bool = False) -> StorageAddress:
    """Where a storage is. Raises StorageError for a file that cannot be one, or must not be
    there; with ``create`` it may be missing."""
    address = parse_address(text)
    if address.path is not None:
        _check_file(address, address.path, create=create)
    return address


def _check_file(address: StorageAddress, path: Path, *, create: bool) -> None:
    if path.is_dir():
        raise StorageError(f"{path} is a folder; --storage takes a file")
    if not path.exists() and not create:
        raise missing(address)
    if not path.parent.is_dir():
        raise StorageError(f"the folder {path.parent} of the storage does not exist; make it first")
    writable = path if path.exists() else path.parent
    if not os.access(writable, os.W_OK):
        raise StorageError(f"{writable} is not writable; a storage must be. Try another --storage")
    if address.kind is StorageKind.SQLITE and (disk := network_disk(path)):
        raise StorageError(
            f"{path} is on a network disk ({disk}), where SQLite's locks do not hold and files "
            "get damaged. Use --storage journal:FILE there, or a file on a local disk, or a "
            "server (postgresql+psycopg://…)"
        )


@contextmanager
def explained(address: StorageAddress) -> Iterator[None]:
    """Turns what drivers say into a StorageError without the password."""
    faults: tuple[type[Exception], ...] = (OSError, ValueError, *storage_faults())
    try:
        yield
    except ImportError as error:
        raise StorageError(_not_installed(address)) from error
    except sqlalchemy.exc.NoSuchModuleError:
        raise StorageError(f"{address.public!r} is no storage URL. {ALLOWED}") from None
    except faults as error:
        words = address.scrub(fault_words(error))
        raise StorageError(
            f"{address.public} cannot be opened: {words}. Is it a storage, not damaged, and may "
            "you use it? Try 'autotune storage check', or another --storage"
        ) from None


def _not_installed(address: StorageAddress) -> str:
    backend = address.url.get_backend_name() if address.url is not None else "grpc"
    extra = _EXTRAS.get(backend, "grpc" if address.kind is StorageKind.GRPC else "")
    mend = f"pip install 'moe-autotune[{extra}]'" if extra else "install its driver"
    return f"{address.public} needs a package that is not installed: {mend}"


def _grpc(address: StorageAddress) -> GrpcStorageProxy:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        storage = GrpcStorageProxy(host=address.host, port=address.port)
    try:
        storage.wait_server_ready(timeout=_CONNECT_TIMEOUT_S)
    except ConnectionError:
        storage.close()
        raise StorageError(
            f"nobody answers at {address.public}. Start 'autotune storage serve' there first"
        ) from None
    return storage
