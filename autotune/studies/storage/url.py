"""The text of ``--storage``, parsed, and shown without its password."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, TypeAlias
from urllib.parse import unquote

import sqlalchemy.exc
from sqlalchemy.engine import URL, make_url

from autotune.errors import StorageError
from autotune.shown import shown, without_passwords

ALLOWED = (
    "Allowed are a file path, sqlite:///FILE, journal:FILE and postgresql+psycopg://USER@HOST/DB"
)
_JOURNAL = "journal:"
_DRIVER = "postgresql+psycopg"
_POSTGRES = ("postgres", "postgresql")
"""Schemes that people write for the driver that the extra ``postgres`` brings."""
_SECRET = re.compile(r"pass|pwd|secret|token|key|options", re.IGNORECASE)
"""Options of a URL's query whose values are nobody's business."""
_SCHEME = re.compile(r"[a-zA-Z][a-zA-Z0-9]*(\+[a-zA-Z][a-zA-Z0-9]*)?")
_COPY = (
    "To keep what is in one, let the version of autotune that wrote it copy it into a SQLite file "
    "('autotune storage backup --storage URL autotune.db'), and use --storage autotune.db"
)
_GONE = {
    "mysql": f"MySQL and MariaDB are no storages any more. {ALLOWED}. {_COPY}",
    "mariadb": f"MySQL and MariaDB are no storages any more. {ALLOWED}. {_COPY}",
    "grpc": f"gRPC servers are no storages any more. {ALLOWED}. Name the SQLite file or "
    f"the PostgreSQL database that the server served. {_COPY}",
}
"""Backends of earlier versions, and what to do about a storage that is on one."""


@dataclass(frozen=True, slots=True)
class SqliteAddress:
    """A SQLite file on a local disk."""

    kind: ClassVar[str] = "SQLite file"
    public: str
    path: Path
    url: URL = field(repr=False)


@dataclass(frozen=True, slots=True)
class ServerAddress:
    """A database on a PostgreSQL server. ``public`` is for people; ``url`` may hold a password."""

    kind: ClassVar[str] = "database server"
    public: str
    url: URL = field(repr=False)


@dataclass(frozen=True, slots=True)
class JournalAddress:
    """A file in the format of Optuna's journal, which may be on a shared disk."""

    kind: ClassVar[str] = "journal file"
    public: str
    path: Path


StorageAddress: TypeAlias = SqliteAddress | ServerAddress | JournalAddress
DatabaseAddress: TypeAlias = SqliteAddress | ServerAddress


def parse_address(text: str) -> StorageAddress:
    """Read the value of ``--storage``. Raises StorageError, which never repeats a password."""
    if text.startswith(_JOURNAL):
        return JournalAddress(text, _file(text.removeprefix(_JOURNAL), text))
    if "://" in text:
        return _database(text)
    path = _file(text, text)
    return SqliteAddress(text, path, URL.create("sqlite", database=str(path)))


def public_url(url: str) -> str:
    """Return the URL without its password, for people and logs."""
    try:
        return parse_address(url).public
    except StorageError:
        return shown(url)


def storage_url(text: str) -> str:
    """Return a URL as it is, and a plain path as a SQLite URL."""
    return text if "://" in text or text.startswith(_JOURNAL) else f"sqlite:///{text}"


def scrub(address: StorageAddress, text: str) -> str:
    """Return ``text`` without the password, wherever a driver's message has it."""
    for secret in _secrets(address.url) if isinstance(address, ServerAddress) else ():
        text = text.replace(secret, "***")
    return text


def _file(name: str, text: str) -> Path:
    if not name or "\0" in name or without_passwords(name) != name:
        raise StorageError(f"--storage {shown(text)!r} names no file. {ALLOWED}")
    path = Path(name)
    with suppress(RuntimeError):  # nobody is called so: the name is a file's
        path = path.expanduser()
    if not path.name:
        raise StorageError(f"--storage {shown(text)!r} is a folder; it takes a file")
    return path


def _database(text: str) -> DatabaseAddress:
    scheme, _, rest = text.partition("://")
    backend = scheme.partition("+")[0]
    if backend in _GONE:
        raise StorageError(f"'{scheme}://…' came as --storage: {_GONE[backend]}")
    if backend not in ("sqlite", *_POSTGRES):
        known = scheme if _SCHEME.fullmatch(scheme) else "…"  # a slip: all may be password
        raise StorageError(f"'{known}://…' is no storage URL. {ALLOWED}")
    url = _url(_DRIVER if scheme in _POSTGRES else scheme, rest)
    if backend != "sqlite":
        return ServerAddress(_shown(url), url)
    name = url.database or ""
    is_file = Path(name).name not in ("", ":memory:") and not name.startswith("file:")
    is_file = is_file and not url.host
    if not is_file or without_passwords(text) != text:
        raise StorageError(f"{shown(text)!r} is no file that others could open. {ALLOWED}")
    return SqliteAddress(text, Path(name), url)


def _url(scheme: str, rest: str) -> URL:
    try:
        url = make_url(f"{scheme}://{rest}")
        if "@" not in f"{url.host}{url.database}":  # else a piece of a password lies there
            return url
    except (sqlalchemy.exc.ArgumentError, ValueError):
        pass  # the parser's words may repeat the password: not even as a cause
    raise StorageError(
        f"'{scheme}://…' is no storage URL. {ALLOWED}. Letters of a password such as @ : / % "
        "are written as %40 %3A %2F %25"
    )


def _shown(url: URL) -> str:
    hidden = {key: "***" for key in url.query if _SECRET.search(key)}
    return url.update_query_dict(hidden).render_as_string(hide_password=True)


def _secrets(url: URL) -> set[str]:
    found = [url.password] if url.password else []
    for key, values in url.query.items():
        if _SECRET.search(key):
            found += [values] if isinstance(values, str) else values
    rendered = make_url(url).render_as_string(hide_password=False)
    quoted = [part for part in re.split(r"[/:@?&=]", rendered) if unquote(part) in found]
    return {secret for secret in (*found, *quoted) if secret}
