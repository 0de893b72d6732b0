"""Folders that commands use where nobody says others."""

from __future__ import annotations

import os
from pathlib import Path

DEFAULT_OUTPUT = Path("configs")
"""Folder of engine files where nobody says one: in the current folder."""


def user_cache() -> Path:
    """Return the user's cache folder of ours."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "autotune"
