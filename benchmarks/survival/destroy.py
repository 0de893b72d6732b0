"""Ways to destroy a storage that a run uses, and to go on with what the run rescued."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy

from autotune.studies.storage.open import opened

_NAMED = re.compile(r"resume --storage (\S+?)'")
_FIRST_PAGE = 4096


def _path(storage: str) -> Path:
    return Path(storage.removeprefix("sqlite:///"))


def _replace(storage: str) -> None:
    """Put an older copy in its place."""
    path = _path(storage)
    shutil.copyfile(path, path.with_name("older.db"))
    path.with_name("older.db").replace(path)


def _cut(storage: str) -> None:
    path = _path(storage)
    os.truncate(path, path.stat().st_size // 2)


def _overwrite(storage: str) -> None:
    """Put other bytes behind its first page."""
    path = _path(storage)
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(min(_FIRST_PAGE, size // 2))
        file.write(os.urandom(size // 2))


def _copy_over(storage: str) -> None:
    """Write another sound database into the file, as cp does."""
    path = _path(storage)
    shutil.copyfile(path.with_name("calm.db"), path)


DESTROY: dict[str, Callable[[str], None]] = {
    "delete storage": lambda storage: _path(storage).unlink(),
    "cut storage": _cut,
    "overwrite storage": _overwrite,
    "replace storage": _replace,
    "copy over storage": _copy_over,
}


def _execute(storage: str, statement: str) -> None:
    engine = sqlalchemy.create_engine(storage)
    with engine.begin() as connection:
        connection.exec_driver_sql(statement)
    engine.dispose()


DESTROY_SERVER: dict[str, Callable[[str], None]] = {
    "empty storage": lambda storage: _execute(storage, "TRUNCATE studies CASCADE"),
    "drop tables": lambda storage: _execute(storage, "DROP TABLE trials CASCADE"),
    "drop all": lambda storage: _execute(
        storage, "DROP SCHEMA public CASCADE; CREATE SCHEMA public"
    ),
}
"""The same of a database on a server."""


def rescued(words: str) -> Path | None:
    """Return the file that the last message of a run names; None for none."""
    found = _NAMED.findall(words)
    return Path(found[-1]) if found and Path(found[-1]).exists() else None


def new_database(server: Any, rescue: str) -> str:
    """Return a new database of the server with what is in a rescue file."""
    url: str = server.new_url()
    with opened(rescue) as source, opened(url, create=True) as target:
        for name in optuna.get_all_study_names(source):
            optuna.copy_study(from_study_name=name, from_storage=source, to_storage=target)
    return url
