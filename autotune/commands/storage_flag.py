"""The flags that name a storage, which nearly every command has, and studies in it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from autotune.commands.flag_kinds import Beside

if TYPE_CHECKING:
    from autotune.studies.study_record import StoredStudy

DEFAULT_STORAGE = "sqlite:///autotune.db"


def storage_beside(word: str, folder: Path) -> str:
    """Return a storage of which a file, in use or not, is taken from a folder."""
    found = re.fullmatch(r"(journal:|sqlite:///|)([^:]+)", word)
    return f"{found[1]}{folder / found[2]}" if found else word


@dataclass(frozen=True, kw_only=True)
class StorageFlag:
    """``--storage``. Its default is AUTOTUNE_STORAGE: other users of the machine see a command's
    words, not its environment."""

    panel = "Storage"

    storage: Annotated[
        str,
        typer.Option(
            "--storage", envvar="AUTOTUNE_STORAGE", help="file, journal:FILE or a PostgreSQL URL"
        ),
        Beside(storage_beside),
    ] = DEFAULT_STORAGE


@dataclass(frozen=True, kw_only=True)
class StudiesFlags(StorageFlag):
    """``--storage``, and ``--model``, which chooses studies in it."""

    panel = "Storage"

    model: Annotated[str | None, typer.Option("--model", help="only this model's studies")] = None


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
