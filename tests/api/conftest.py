"""A small recorded landscape to tune, in a folder of its own."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_landscape import save_landscape  # type: ignore[import-not-found]


@pytest.fixture
def landscape(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("AUTOTUNE_STORAGE", raising=False)
    return save_landscape(tmp_path / "small.npz")
