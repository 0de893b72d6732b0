"""A small recorded landscape to run commands on."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_landscape import save_landscape  # type: ignore[import-not-found]


@pytest.fixture
def landscape(tmp_path: Path) -> Path:
    return save_landscape(tmp_path / "small.npz")
