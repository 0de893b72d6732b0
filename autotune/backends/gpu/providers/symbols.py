"""Checks that an installed engine has the names and parameters that its provider calls."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

import autotune.kernels
from autotune.errors import MissingProvider, ProviderError

_NUMBERS = re.compile(r"[0-9]+(?:\.[0-9]+)*")


@dataclass(frozen=True, slots=True)
class Symbol:
    """A function or class, and the parameters (fields, of a class) that are given to it."""

    module: str
    name: str
    parameters: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"

    def missing(self, declared: Sequence[str]) -> list[str]:
        """Say which of the parameters are not declared."""
        return [f"{self} has no {name!r}" for name in self.parameters if name not in declared]


@dataclass(frozen=True, slots=True)
class Needs:
    """A package that a provider calls, in versions from ``since`` and before ``until``."""

    package: str
    title: str
    since: str
    until: str
    symbols: Mapping[str, Symbol]
    """Symbols by the name under which the provider uses them."""

    def installed_version(self) -> str:
        """Return the version. Raises MissingProvider where the package is not installed,
        ProviderError for another version."""
        try:
            version = metadata.version(self.package)
        except metadata.PackageNotFoundError:
            raise MissingProvider(
                f"{self.title} is not installed: pip install "
                f"'{self.package}>={self.since},<{self.until}'"
            ) from None
        if not _key(self.since) <= _key(version) < _key(self.until):
            raise ProviderError(
                f"{self.title} {version} is installed; versions from {self.since} and below "
                f"{self.until} are known. Try pip install '{self.package}>={self.since},"
                f"<{self.until}', or leave --provider {self.package} out"
            )
        return version

    def load(self) -> dict[str, Any]:
        """Return every symbol's object. Raises ProviderError that lists all that is missing."""
        version = self.installed_version()
        found: dict[str, Any] = {}
        faults: dict[str, None] = {}  # in order, each said once
        for key, symbol in self.symbols.items():
            try:
                found[key] = getattr(import_module(symbol.module), symbol.name)
            except (ImportError, AttributeError) as error:
                faults[str(error)] = None
            else:
                faults |= dict.fromkeys(symbol.missing(_parameters(found[key])))
        if faults:
            raise ProviderError(_words(self.title, version, faults))
        return found


def leave_shadowing_folders() -> None:
    """Take the current folder off the import path of this process, and every one that shows our
    ``kernels`` and ``studies`` at its top: SGLang imports a package of the first name."""
    here, ours = Path.cwd().resolve(), Path(autotune.kernels.__file__).resolve().parent
    kept = []
    for entry in sys.path:
        folder = Path(entry).resolve()
        if folder != here and (folder / "kernels").resolve() != ours:
            kept.append(entry)
    sys.path[:] = kept


def _parameters(found: object) -> list[str]:
    members = getattr(found, "__members__", None)
    if members is not None:
        return list(members)
    return list(inspect.signature(found).parameters) if callable(found) else []


def _words(title: str, version: str, faults: Iterable[str]) -> str:
    return (
        f"{title} {version} lacks what is needed of it: {'; '.join(faults)}. "
        "Try a version before or after it"
    )


def _key(version: str) -> tuple[int, ...]:
    match = _NUMBERS.match(version)
    return tuple(map(int, match[0].split("."))) if match else ()
