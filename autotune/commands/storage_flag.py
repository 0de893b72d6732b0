"""The flags that name a storage, which nearly every command has, and studies in it."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from autotune.studies.study_record import StoredStudy

DEFAULT_STORAGE = "sqlite:///autotune.db"


def add_storage_flag(parser: argparse._ActionsContainer) -> None:
    """Add ``--storage``. Its default is AUTOTUNE_STORAGE: other users of the machine see a
    command's words, not its environment."""
    parser.add_argument(
        "--storage",
        default=os.environ.get("AUTOTUNE_STORAGE") or DEFAULT_STORAGE,
        help="file, journal:FILE or a PostgreSQL URL; by default what "
        f"AUTOTUNE_STORAGE says, else {DEFAULT_STORAGE}",
    )


def add_studies_flags(parser: argparse._ActionsContainer) -> None:
    """Add ``--storage`` and ``--model``, which chooses studies in it."""
    add_storage_flag(parser)
    parser.add_argument("--model", help="only this model's studies")


def chosen_studies(
    url: str, model: str | None, output_dir: Path | None = None
) -> list[StoredStudy]:
    """Read the studies of ``model``, or all, from a storage that exists; their settings have
    paths that may be used (``own_runs.placed``)."""
    from autotune.commands.own_runs import placed
    from autotune.studies.storage.open import opened
    from autotune.studies.study_record import stored_studies
    from autotune.tuning.stored_results import select

    with opened(url) as storage:
        return placed(select(stored_studies(storage), model), output_dir)
