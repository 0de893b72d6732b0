"""Opening a storage of any kind so that nothing is lost and nobody waits for locks."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import optuna
import sqlalchemy
import sqlalchemy.exc
from optuna.storages import BaseStorage, RDBStorage

from autotune.errors import StorageError
from autotune.extras import needed
from autotune.studies.storage.database import engine_kwargs, missing, open_database
from autotune.studies.storage.journal import open_journal
from autotune.studies.storage.retry import STORAGE_ERRORS, error_words
from autotune.studies.storage.schema import Schema, schema_of
from autotune.studies.storage.url import (
    ALLOWED,
    JournalAddress,
    ServerAddress,
    SqliteAddress,
    StorageAddress,
    parse_address,
    scrub,
)

TRIED = "5.0"
"""The version of Optuna with whose tables and private names this folder was tried."""

_NETWORK = re.compile(
    "9p|afs|beegfs|ceph|cifs|dfs|efs|fhgfs|glusterfs|gpfs|lustre|ncpfs|nfs[34]?|orangefs|pvfs2|"
    "smb[23]|smbfs|vboxsf|vmhgfs|wekafs|"
    "fuse[.](ceph|ceph-fuse|dxfuse|gcsfuse|glusterfs|goofys|gvfsd-fuse|juicefs|mountpoint-s3|"
    "rclone|s3fs|sshfs|vmhgfs-fuse)"
)
"""File systems whose locks between machines, or at all, are not SQLite's, and whose shared memory
(SQLite's WAL index) is not that of another machine: https://sqlite.org/wal.html, "Overview". Other
ones of FUSE (``fuseblk``, ``fuse.mergerfs``) are local."""
_FULL = ("too many clients", "too many connections", "connection slots are reserved")
"""Words of PostgreSQL where it takes no more connections."""
_MOUNTS = Path("/proc/self/mountinfo")
_ESCAPE = re.compile(r"\\([0-7]{3})")

optuna.logging.set_verbosity(optuna.logging.WARNING)


def open_storage(text: str, *, create: bool) -> BaseStorage:
    """Open, and with ``create`` make, the storage that ``--storage`` names; ``close_storage``
    ends it. Any number of processes may open, and make, the same one at the same time.

    Raises StorageError if it is missing (MissingStorageError, without ``create``), no storage,
    not writable, on a network disk where it may not be, damaged, or of another Optuna's schema:
    nothing is changed then.
    """
    address = checked_address(text, create=create)
    with explained(address):
        if isinstance(address, JournalAddress):
            return open_journal(address.path.absolute())
        return open_database(address, create=create)


def close_storage(storage: BaseStorage) -> None:
    """Give back the connections that the storage holds."""
    storage.remove_session()
    if isinstance(storage, RDBStorage):
        storage.engine.dispose()


@contextmanager
def opened(text: str, *, create: bool = False) -> Iterator[BaseStorage]:
    """Hold a storage open; see ``open_storage``."""
    storage = open_storage(text, create=create)
    try:
        yield storage
    finally:
        close_storage(storage)


@contextmanager
def reading(text: str) -> Iterator[sqlalchemy.Engine | BaseStorage]:
    """Open a storage to look at it alone: a database as its engine, a fifth of a second sooner
    than as Optuna's storage, which first checks its schema and loads what could migrate it.

    Raises StorageError if it is missing or no storage.
    """
    address = checked_address(text)
    if isinstance(address, JournalAddress):
        with opened(text) as storage:
            yield storage
        return
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


def checked_address(text: str, *, create: bool = False) -> StorageAddress:
    """Return where a storage is. Raises StorageError for an Optuna that was not tried, and for a
    file that cannot be a storage, or must not be there; with ``create`` it may be missing."""
    _check_optuna()
    address = parse_address(text)
    if not isinstance(address, ServerAddress):
        _check_file(address, create=create)
    return address


def _check_optuna() -> None:
    found = optuna.__version__
    if ".".join(found.split(".")[:2]) != TRIED:
        raise StorageError(
            f"Optuna {found} is installed, and this autotune was tried with {TRIED} alone: it "
            "writes into Optuna's own tables, which another version may have changed. Nothing was "
            f"opened. Install one that was tried (pip install 'optuna=={TRIED}.*'), or look for a "
            "newer autotune"
        )


def _check_file(address: SqliteAddress | JournalAddress, *, create: bool) -> None:
    path = address.path
    if path.is_dir():
        raise StorageError(f"{path} is a folder; --storage takes a file")
    if path.exists() and not path.is_file():
        raise StorageError(f"{path} is no ordinary file; --storage takes one, or makes it")
    if not path.exists() and not create:
        raise missing(address)
    if not path.parent.is_dir():
        raise StorageError(f"the folder {path.parent} of the storage does not exist; make it first")
    writable = path if path.exists() else path.parent
    if not os.access(writable, os.W_OK):
        raise StorageError(f"{writable} is not writable; a storage must be. Try another --storage")
    if isinstance(address, SqliteAddress) and (disk := network_disk(path)):
        raise StorageError(
            f"{path} is on a network disk ({disk}), where SQLite's locks do not hold and files "
            "get damaged. Use --storage journal:FILE there, or a file on a local disk, or a "
            "server (postgresql+psycopg://…)"
        )


@contextmanager
def explained(address: StorageAddress) -> Iterator[None]:
    """Turn the errors of drivers into a StorageError without the password, and a driver that is
    not installed into a MissingExtraError."""
    try:
        with needed("postgres", address.public):
            yield
    except sqlalchemy.exc.NoSuchModuleError:
        raise StorageError(f"{address.public!r} is no storage URL. {ALLOWED}") from None
    except (OSError, ValueError, *STORAGE_ERRORS) as error:
        words = scrub(address, error_words(error))
        reason = f"cannot be opened: {words}. {_advice(words)}"
        raise StorageError(f"{address.public} {reason}") from None


def _advice(words: str) -> str:
    """Return what to try where a driver refuses to open a storage with these words."""
    if any(each in words for each in _FULL):
        return (
            "Every connection that the server allows is in use: set its max_connections higher "
            "(docs/workers.md says how high), or start fewer workers"
        )
    return (
        "Is it a storage, not damaged, and may you use it? Try 'autotune storage check', or "
        "another --storage"
    )


def network_disk(path: Path, mounts: Path = _MOUNTS) -> str | None:
    """Return the file system's type if it is one of a network; None for local and unknown ones.

    ``mounts`` has the format of ``/proc/self/mountinfo`` (proc_pid_mountinfo(5)).
    """
    try:
        text = mounts.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return None
    kinds = dict(_mounted(text))  # of two mounts at one place the later one is on top
    absolute = Path(os.path.realpath(path))  # of links in a circle, too
    kind = next((kinds[p] for p in (absolute, *absolute.parents) if p in kinds), "")
    return kind if _NETWORK.fullmatch(kind) else None


def _mounted(text: str) -> Iterator[tuple[Path, str]]:
    """Yield mount point and type of every line; lines of another form are passed over."""
    for line in text.splitlines():
        left, dash, right = line.partition(" - ")
        fields, kinds = left.split(), right.split()
        if dash and len(fields) > 4 and kinds:
            point = _ESCAPE.sub(lambda match: chr(int(match[1], 8)), fields[4])
            yield Path(point), kinds[0]
