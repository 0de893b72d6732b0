"""``check``, which needs no storage: it is imported without Optuna."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from autotune.engines import ENGINES, CheckReport, check_file
from autotune.errors import UsageError

EngineName = Literal["sglang", "vllm"]


def check(
    file: str | Path, *, engine: EngineName, triton_version: str | None = None
) -> CheckReport:
    """Say whether an engine file is legal and the engine would find it: ``autotune check``.

    triton_version: that of the serving machine, as "3.6.0".

    Raises AutotuneError for a path that is not a file.
    """
    check_choice("engine", engine, ENGINES)
    return check_file(Path(file), ENGINES[engine], triton_version=triton_version)


def check_choice(name: str, word: str, allowed: Iterable[str]) -> None:
    """Raise UsageError for a word that the keyword of this name does not have."""
    if word not in (known := tuple(allowed)):
        raise UsageError(f"{name}={word!r}: give {' or '.join(known)}")
