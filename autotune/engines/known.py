"""Which models an engine has a class for, by the table that benchmarks/names/classes.py makes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any
from zipfile import Path as ZipPath

from autotune.models.shape import ModelShape


def why_unknown(package: str, shape: ModelShape, installed: Path | None) -> str | None:
    """Say why an engine has no class for a model; None where it may serve it.

    It also takes a model's own code, and classes of transformers. ``installed`` is the engine's
    package here, which may be another version than the table's.
    """
    name, known = shape.architecture, _table()[package]
    if not name or shape.has_own_code or name in known["classes"]:
        return None
    if is_of_transformers(name):
        return None
    if installed is not None and speaks_of(installed, name):
        return None
    return f"{known['version']} has no class {name}, nor has transformers, which it falls back to"


def is_of_transformers(architecture: str) -> bool:
    """True for a class of transformers with experts, which engines take in place of their own."""
    return architecture in _table()["transformers"]["classes"]


@cache
def _table() -> dict[str, Any]:
    file = resources.files("autotune.engines") / "classes.json"
    table: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return table


@cache
def speaks_of(package: Path | ZipPath, name: str) -> bool:
    """True where the models of an engine's package, unpacked or in a wheel, name the class."""
    word = re.compile(rf"\b{re.escape(name)}\b")
    folders = (package / above / "models" for above in ("model_executor", "srt"))
    return any(word.search(text) for folder in folders if folder.is_dir() for text in _in(folder))


def _in(folder: Path | ZipPath) -> Iterator[str]:
    """Yield the texts of the Python files below a folder."""
    entries: Iterator[Path | ZipPath] = iter(folder.iterdir())
    for entry in entries:
        if entry.is_dir():
            yield from _in(entry)
        elif entry.name.endswith(".py"):
            yield entry.read_text(encoding="utf-8")
