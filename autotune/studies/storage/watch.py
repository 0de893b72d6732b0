"""Whether a storage in use is still the one that was opened, and still has what was written.

SQLite goes on writing into a file that somebody deleted or put another in the place of, and hears
of one that was cut or overwritten when it next reads that part.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Collection, Mapping
from pathlib import Path
from urllib.parse import quote

import sqlalchemy as sa
from optuna.storages import RDBStorage
from sqlalchemy.pool import NullPool

from autotune.shown import counted
from autotune.studies.storage.raw import Source
from autotune.studies.storage.retry import DAMAGE, TRANSIENT_ERRORS, error_words, is_damage
from autotune.studies.storage.schema import STUDY, TRIAL, missing_tables
from autotune.studies.storage.url import JournalAddress, ServerAddress, parse_address
from autotune.studies.trial_record import MEASURED

_TAIL = 64
_PATIENCE_S = 1.0
_MOST_BYTES = 2**26
"""A larger file is not read through at each look: the parent must hear its workers."""


class StorageWatch:
    """Looks at a storage that this process has open, for as long as it is used.

    A journal's descriptor is held. One of SQLite's file is never opened here: to close it would
    give up the locks of every connection in this process, and SQLite's own keep the inode.
    """

    def __init__(self, text: str) -> None:
        address = parse_address(text)
        self._is_journal = isinstance(address, JournalAddress)
        self._path = None if isinstance(address, ServerAddress) else address.path.absolute()
        self._engine: sa.Engine | None = None
        self._file: int | None = None
        self._opened: os.stat_result | None = None
        self._size = self._end = 0
        self._tail = b""
        self._counts: dict[str, int] = {}

    def begin(self, storage: Source) -> None:
        """Take what is there now for the storage that was opened."""
        engine = storage.engine if isinstance(storage, RDBStorage) else storage
        if isinstance(engine, sa.Engine):  # a new connection has no pages in memory
            self._engine = engine if self._path is None else self._reader(self._path)
        if self._path is not None:
            self._opened = self._path.stat()
            if self._is_journal:
                self._file = os.open(self._path, os.O_RDONLY)

    def close(self) -> None:
        """Let the journal go."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def fault(self, studies: Collection[str]) -> str | None:
        """Return what became of the storage, in words; None where nothing is known to be wrong.

        Of ``studies``, by name, none may vanish, or have fewer measured trials than at a look
        before.
        """
        return self._file_fault() or self._data_fault(studies)

    @staticmethod
    def _reader(path: Path) -> sa.Engine:
        uri = f"file:{quote(os.fsencode(path))}?mode=rw"  # it must not make the file anew
        return sa.create_engine(
            "sqlite://",
            creator=lambda: sqlite3.connect(uri, uri=True, timeout=_PATIENCE_S),
            poolclass=NullPool,
        )

    def _file_fault(self) -> str | None:
        if self._path is None or self._opened is None:
            return None
        try:
            present = self._path.stat()
        except FileNotFoundError:
            return "was deleted"
        except OSError:
            return None  # a disk that comes back may have it
        if not os.path.samestat(self._opened, present):
            return "was replaced by another file"
        if self._is_journal:
            return self._journal_fault(present.st_size)
        before, self._size = self._size, present.st_size
        return f"was cut from {before} bytes to none" if before and not self._size else None

    def _journal_fault(self, size: int) -> str | None:
        """A journal only grows, but for a torn last line: what was there is there."""
        assert self._file is not None
        if size < self._end:
            return f"was cut from {self._end} to {size} bytes"
        if os.pread(self._file, len(self._tail), self._end - len(self._tail)) != self._tail:
            return "was overwritten"
        new = os.pread(self._file, size - self._end, self._end)
        self._end += new.rfind(b"\n") + 1
        start = max(self._end - _TAIL, 0)
        self._tail = os.pread(self._file, self._end - start, start)
        return None

    def _data_fault(self, studies: Collection[str]) -> str | None:
        if self._engine is None:
            return None
        found = "ok"
        try:
            if gone := missing_tables(self._engine):
                return f"has lost tables ({', '.join(gone)})"
            with self._engine.connect() as connection:
                counts = {str(name): count for name, count in connection.execute(_COUNTS)}
                if self._path is not None and self._size <= _MOST_BYTES:
                    found = str(connection.exec_driver_sql("PRAGMA quick_check(1)").scalar())
        except sa.exc.DBAPIError as error:
            return f"is damaged: {error_words(error)}" if is_damage(error) else None
        except (*DAMAGE, *TRANSIENT_ERRORS):
            return None  # who works on that study hears of it
        if found != "ok":
            return f"is damaged: {found}"
        known = {name: self._counts[name] for name in studies if name in self._counts}
        self._counts = counts
        return _lost(known, counts)


def _lost(known: Mapping[str, int], counts: Mapping[str, int]) -> str | None:
    gone = sum(name not in counts for name in known)
    lost = sum(max(count - counts.get(name, 0), 0) for name, count in known.items())
    if not gone and not lost:
        return None
    studies, trials = counted(gone, "study", "studies"), counted(lost, "measured trial")
    return f"was overwritten: {studies} and {trials} are not in it"


_COUNTS = (
    sa.select(STUDY.c.study_name, sa.func.count(TRIAL.c.trial_id))
    .outerjoin(TRIAL, sa.and_(TRIAL.c.study_id == STUDY.c.study_id, TRIAL.c.state.in_(MEASURED)))
    .group_by(STUDY.c.study_name)
)
"""Study → its measured trials."""
