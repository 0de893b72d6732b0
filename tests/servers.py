"""A private PostgreSQL from Debian's packages: a temporary folder, a free port of loopback, an
unprivileged user where the tests run as root. It is started once a session."""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy

USER, PASSWORD = "tuner", "open/sesame@42"
"""The password has letters that a URL must quote."""
QUOTED = "open%2Fsesame%4042"
_START_S = 60.0


@dataclass(frozen=True, slots=True)
class Server:
    """A running server that makes empty databases."""

    scheme: str
    port: int
    first: str
    """A database that is always there."""
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def url(self, database: str) -> str:
        return f"{self.scheme}://{USER}:{QUOTED}@127.0.0.1:{self.port}/{database}"

    def new_url(self) -> str:
        """The URL of a new empty database."""
        name = f"tests{next(self._numbers)}"
        engine = sqlalchemy.create_engine(self.url(self.first), isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.exec_driver_sql(f"CREATE DATABASE {name}")
        engine.dispose()
        return self.url(name)


@contextmanager
def postgres() -> Iterator[Server]:
    """Skips where PostgreSQL or its driver is not installed."""
    pytest.importorskip("psycopg", reason="no psycopg: the extra 'postgres' is not installed")
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    initdb = shutil.which("initdb") or (str(found[-1]) if found else None)
    if initdb is None:
        pytest.skip("no PostgreSQL server: apt install postgresql")
    with _folder("postgres") as (folder, as_user):
        secret = folder / "password"
        secret.write_text(PASSWORD)
        secret.chmod(0o644)  # the folder is the server's user's alone
        words = ["-D", folder / "data", "-U", USER, "-A", "scram-sha-256", "--pwfile", secret]
        _done(initdb, *words, "--no-sync", "-E", "UTF8", "--locale", "C", **as_user)
        port = free_port()
        sets = ("fsync=off", f"port={port}", f"unix_socket_directories={folder}")
        options = [word for text in sets for word in ("-c", text)]
        postgres = Path(initdb).with_name("postgres")
        server = Server("postgresql+psycopg", port, "postgres")
        with _running([postgres, "-D", folder / "data", *options], folder, as_user, server):
            yield server


@contextmanager
def _folder(user: str) -> Iterator[tuple[Path, dict[str, Any]]]:
    """A folder that belongs to whoever the server runs as, and how to run as that user."""
    folder = Path(tempfile.mkdtemp(prefix="autotune-"))
    as_user: dict[str, Any] = {}
    try:
        if os.geteuid() == 0:
            entry = _entry(user)
            shutil.chown(folder, entry.pw_uid, entry.pw_gid)
            as_user = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
        yield folder, as_user
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _entry(user: str) -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(user)
    except KeyError:
        return pwd.getpwnam("nobody")


def _done(*words: object, **as_user: Any) -> None:
    done = subprocess.run(
        list(map(str, words)), capture_output=True, text=True, check=False, cwd="/", **as_user
    )
    if done.returncode:
        pytest.skip(f"{words[0]} failed: {(done.stderr or done.stdout).strip()[-300:]}")


@contextmanager
def _running(
    words: list[Any], folder: Path, as_user: dict[str, Any], server: Server
) -> Iterator[None]:
    log = folder / "log"
    with log.open("w") as file:
        process = subprocess.Popen(
            list(map(str, words)), stdout=file, stderr=file, cwd="/", **as_user
        )
    try:
        _wait(lambda: _answers(server), process, log)
        yield
    finally:
        process.send_signal(signal.SIGINT if server.first == "postgres" else signal.SIGTERM)
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _answers(server: Server) -> bool:
    engine = sqlalchemy.create_engine(server.url(server.first))
    try:
        with engine.connect():
            return True
    except sqlalchemy.exc.OperationalError:
        return False
    finally:
        engine.dispose()


def _wait(ready: Callable[[], bool], process: subprocess.Popen[Any], log: Path) -> None:
    deadline = time.monotonic() + _START_S
    while not ready():
        if process.poll() is not None or time.monotonic() > deadline:
            pytest.skip(f"{process.args[0]} did not start: {log.read_text()[-300:]}")
        time.sleep(0.1)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
