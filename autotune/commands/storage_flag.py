"""``--storage``, which nearly every command has."""

from __future__ import annotations

import argparse
import os

DEFAULT_STORAGE = "sqlite:///autotune.db"


def add_storage_flag(parser: argparse._ActionsContainer) -> None:
    """By default what AUTOTUNE_STORAGE says: other users see a command's words, not its
    environment."""
    parser.add_argument(
        "--storage",
        default=os.environ.get("AUTOTUNE_STORAGE") or DEFAULT_STORAGE,
        help="file, journal:FILE, grpc://HOST:PORT or a database's URL; by default what "
        f"AUTOTUNE_STORAGE says, else {DEFAULT_STORAGE}",
    )
