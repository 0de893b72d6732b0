"""A small recorded landscape to tune, in a folder of its own."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from small_landscape import save_landscape  # type: ignore[import-not-found]


@pytest.fixture(autouse=True)
def _log_of_a_caller() -> Iterator[None]:
    """The logger as callers find it: the command line, which tests run too, sets it up."""
    log = logging.getLogger("autotune")
    kept = log.handlers, log.level, log.propagate
    log.handlers, log.level, log.propagate = [], logging.NOTSET, True
    yield
    log.handlers, log.level, log.propagate = kept


@pytest.fixture
def landscape(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("AUTOTUNE_STORAGE", raising=False)
    return save_landscape(tmp_path / "small.npz")
