"""Fresh storages of every kind, for whoever must work on all of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

KINDS = ("sqlite", "journal", "postgres")


@contextmanager
def fresh_storage(kind: str, folder: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """What ``--storage`` takes for an empty storage; skips where the kind cannot be had."""
    if kind == "sqlite":
        yield str(folder / "autotune.db")
    elif kind == "journal":
        yield f"journal:{folder / 'autotune.journal'}"
    else:
        yield request.getfixturevalue(kind).new_url()
