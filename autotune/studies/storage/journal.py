"""Optuna's journal in a file that survives a writer's death."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from optuna.exceptions import StorageInternalError
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.storages.journal._file import get_lock_file

from autotune.errors import StorageError

_CHUNK = 1 << 16


def open_journal(path: Path) -> JournalStorage:
    """Open, and make where it is missing. Raises StorageError for what is no journal, or damaged,
    and OSError."""
    try:
        return JournalStorage(JournalFile(path))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        line = _first_bad_line(path)
        where = f"line {line} cannot be read" if line else f"{error!r}"
        keep = f". 'head -n {line - 1} {path} > NEW' keeps what is before it" if line > 1 else ""
        raise StorageError(f"{path} is no journal of Optuna, or damaged: {where}{keep}") from error


class JournalFile(JournalFileBackend):
    """A journal whose last line may be torn: the rest of it is cut off before more is written.

    Optuna's own would write on behind a torn line, and nobody could read the file any more.

    The lock is made by O_EXCL, which NFSv3 and later keep. Optuna's other one, a symbolic link,
    is for NFSv2; it looks at its age through the link, which no relative path survives.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(str(path), JournalFileOpenLock(str(path)))
        self._path = path

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Raises StorageInternalError where the disk refuses."""
        text = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs)
        try:
            with get_lock_file(self._lock):
                cut_torn_line(self._path)
                with self._path.open("ab") as file:
                    file.write(text.encode())
                    file.flush()
                    os.fsync(file.fileno())
        except OSError as error:
            raise StorageInternalError(
                f"{self._path} cannot be written: {error.strerror or error}"
            ) from error


def cut_torn_line(path: Path) -> int:
    """Cut what follows the last line end, and say how many bytes that were.

    Only for the holder of the journal's lock: it would cut a line that is being written.
    """
    with path.open("rb+") as file:
        size = end = file.seek(0, os.SEEK_END)
        while end:
            start = max(0, end - _CHUNK)
            file.seek(start)
            newline = file.read(end - start).rfind(b"\n")
            if newline >= 0:
                end = start + newline + 1
                break
            end = start
        if end < size:
            file.truncate(end)
    return size - end


def _first_bad_line(path: Path) -> int:
    """Counted from 1; 0 where every line is a JSON object."""
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                if not isinstance(json.loads(line), dict):
                    return number
            except ValueError:
                return number
    return 0
