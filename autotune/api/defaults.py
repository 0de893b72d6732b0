"""Where results go where nobody says: storage, engine files, and what was compiled."""

from __future__ import annotations

import os
from pathlib import Path

DEFAULT_OUTPUT = Path("configs")
"""Folder of engine files where nobody says one: in the current folder."""
DEFAULT_STORAGE = "sqlite:///autotune.db"


def default_storage() -> str:
    """Return what AUTOTUNE_STORAGE says, else ``DEFAULT_STORAGE``."""
    return os.environ.get("AUTOTUNE_STORAGE") or DEFAULT_STORAGE


def user_cache() -> Path:
    """Return the user's cache folder of ours."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "autotune"
