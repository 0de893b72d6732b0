"""Fresh storages of every kind, for whoever must work on all of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from optuna.storages import get_storage
from servers import free_port  # type: ignore[import-not-found]

import autotune
from autotune.studies.storage.open import close_storage, open_storage

KINDS = ("sqlite", "journal", "grpc", "postgres", "mariadb")


@contextmanager
def fresh_storage(kind: str, folder: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """What ``--storage`` takes for an empty storage; skips where the kind cannot be had."""
    if kind == "sqlite":
        yield str(folder / "autotune.db")
    elif kind == "journal":
        yield f"journal:{folder / 'autotune.journal'}"
    elif kind == "grpc":
        with _served_here(folder / "served.db") as url:
            yield url
    else:
        yield request.getfixturevalue(kind).new_url()


@contextmanager
def _served_here(path: Path) -> Iterator[str]:
    """As ``served``, from threads of this process: a second sooner."""
    pytest.importorskip("grpc", reason="no grpcio: the extra 'grpc' is not installed")
    from optuna.storages._grpc.server import make_server

    storage, port = open_storage(str(path), create=True), free_port()
    server = make_server(get_storage(storage), "127.0.0.1", port)
    server.start()
    yield f"grpc://127.0.0.1:{port}"
    server.stop(grace=1.0).wait()
    close_storage(storage)


@contextmanager
def served(path: Path) -> Iterator[str]:
    """``storage serve`` on loopback."""
    pytest.importorskip("grpc", reason="no grpcio: the extra 'grpc' is not installed")
    words = ["storage", "serve", "--storage", str(path), "--port", str(free_port())]
    package = str(Path(autotune.__file__).parents[1])
    server = subprocess.Popen(
        [sys.executable, "-m", "autotune", *words],
        env=os.environ | {"PYTHONPATH": package},
        cwd=path.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert server.stdout is not None
    try:
        yield server.stdout.readline().strip()
    finally:
        server.send_signal(signal.SIGINT)
        server.communicate(timeout=20)
    assert server.returncode == 0
