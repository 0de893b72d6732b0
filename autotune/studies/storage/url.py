"""What ``--storage`` may say, and how it is shown without its password."""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

import sqlalchemy.exc
from sqlalchemy.engine import URL, make_url

from autotune.errors import StorageError

ALLOWED = (
    "Allowed are a file path, sqlite:///FILE, journal:FILE, postgresql+psycopg://USER@HOST/DB, "
    "mysql+pymysql://USER@HOST/DB and grpc://HOST:PORT"
)
GRPC_PORT = 13000
"""Optuna's own default."""

_JOURNAL = "journal:"
_GRPC = "grpc://"
_DRIVERS = {
    "postgres": "postgresql+psycopg",
    "postgresql": "postgresql+psycopg",
    "mysql": "mysql+pymysql",
    "mariadb": "mysql+pymysql",
    "mariadb+pymysql": "mysql+pymysql",
}
"""What people write → the driver that an extra of ours brings. Optuna knows MariaDB as mysql."""
_SECRET = re.compile(r"pass|pwd|secret|token|key", re.IGNORECASE)
"""Options of a URL's query whose values are nobody's business."""


class StorageKind(enum.Enum):
    """How a storage is reached."""

    SQLITE = "SQLite file"
    SERVER = "database server"
    JOURNAL = "journal file"
    GRPC = "gRPC server"


@dataclass(frozen=True, slots=True)
class StorageAddress:
    """A storage, parsed. ``public`` is for people and logs; the rest may hold a password."""

    kind: StorageKind
    public: str
    path: Path | None = None
    """Of a file."""
    url: URL | None = field(default=None, repr=False)
    """Of a database."""
    host: str = ""
    port: int = GRPC_PORT

    def scrub(self, text: str) -> str:
        """``text`` without the password, wherever a driver's message has it."""
        for secret in _secrets(self.url) if self.url is not None else ():
            text = text.replace(secret, "***")
        return text

    @property
    def is_shared(self) -> bool:
        """Whether other machines may use it; a journal only where they share its disk."""
        return self.kind is not StorageKind.SQLITE


def parse_address(text: str) -> StorageAddress:
    """Read what ``--storage`` says. Raises StorageError, which never repeats a password."""
    if text.startswith(_JOURNAL):
        return _file(StorageKind.JOURNAL, text.removeprefix(_JOURNAL), text)
    if text.startswith(_GRPC):
        return _grpc(text)
    if "://" not in text:
        return _file(StorageKind.SQLITE, text, text)
    return _database(text)


def _file(kind: StorageKind, name: str, text: str) -> StorageAddress:
    if not name or "\0" in name:
        raise StorageError(f"--storage {text!r} names no file. {ALLOWED}")
    path = Path(name).expanduser()
    url = URL.create("sqlite", database=str(path)) if kind is StorageKind.SQLITE else None
    return StorageAddress(kind, text, path, url)


def _grpc(text: str) -> StorageAddress:
    rest = text.removeprefix(_GRPC).rstrip("/")
    match = re.fullmatch(r"(?P<host>\[[0-9a-fA-F:]+\]|[^\s:/@\[\]]+)(?::(?P<port>[0-9]+))?", rest)
    port = int(match["port"] or GRPC_PORT) if match else 0
    if not match or not 0 < port < 65536:
        raise StorageError(f"a gRPC storage is grpc://HOST:PORT, without a login. {ALLOWED}")
    return StorageAddress(StorageKind.GRPC, text, host=match["host"], port=port)


def _database(text: str) -> StorageAddress:
    url = _url(text)
    if url.get_backend_name() != "sqlite":
        return StorageAddress(StorageKind.SERVER, _shown(url), url=url)
    name = url.database or ""
    if name in ("", ":memory:") or name.startswith("file:"):
        raise StorageError(f"{text!r} is no file that another process could open. {ALLOWED}")
    return StorageAddress(StorageKind.SQLITE, text, Path(name), url)


def _url(text: str) -> URL:
    scheme, _, rest = text.partition("://")
    try:
        url = make_url(f"{_DRIVERS.get(scheme, scheme)}://{rest}")
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
