"""The flags that name a storage, which nearly every command has, and studies in it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from autotune.api.defaults import DEFAULT_STORAGE
from autotune.commands.flag_kinds import Beside


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
