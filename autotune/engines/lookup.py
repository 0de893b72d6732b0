"""Lookup in a file as both engines do it: every key an integer, then the nearest one."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from autotune.engines.entries import as_tokens, config_of, load_body, nearest
from autotune.engines.protocol import Found
from autotune.errors import EngineFileError
from autotune.spec.config import Config
from autotune.spec.device import Device
from autotune.spec.problem import Problem

WhyIllegal = Callable[[Problem, Device, Config], "str | None"]


def entries_by_tokens(body: Mapping[str, Any], ignored: Collection[str] = ()) -> dict[int, Any]:
    """Entries under integer keys, in the file's order. Raises EngineFileError for another key."""
    entries: dict[int, Any] = {}
    for key, entry in body.items():
        if key in ignored:
            continue
        tokens = as_tokens(key)
        if tokens is None:
            raise EngineFileError(
                f"the key {key!r} is not a token count, and the engine fails on it. Remove it"
            )
        entries[tokens] = entry
    return entries


def parsed(tokens: int, entry: object, known: Collection[str]) -> Config:
    """Return one entry as a config. Raises EngineFileError where the engine's launch would fail."""
    try:
        return config_of(entry, known)
    except ValueError as error:
        raise EngineFileError(
            f"the entry for {tokens} tokens cannot be launched: {error}"
        ) from error


def find_in(
    path: Path, tokens: int, known: Collection[str], *, ignored: Collection[str] = ()
) -> Found | None:
    """Return the entry of ``path`` that is nearest to ``tokens``; None for a file without
    entries."""
    body = load_body(path)
    try:
        entries = entries_by_tokens(body, ignored)
        if not entries:
            return None
        key = nearest(entries, tokens)
        return Found(parsed(key, entries[key], known), path, key)
    except EngineFileError as error:
        raise EngineFileError(f"{path}: {error}") from error


def refuse_illegal(
    configs: Mapping[int, Config], problem: Problem, device: Device, why_illegal: WhyIllegal
) -> None:
    """Raises EngineFileError for the first config that the engine must not be given."""
    for tokens, config in configs.items():
        if reason := why_illegal(problem, device, config):
            raise EngineFileError(f"the config for {tokens} tokens ({config}) is illegal: {reason}")


def installed_folder(package: str, candidates: Collection[str]) -> Path | None:
    """Return the first of ``candidates`` inside an installed package, found without importing
    it."""
    try:
        spec = find_spec(package)
    except ValueError:  # a module that was put into sys.modules without a spec
        return None
    roots = spec.submodule_search_locations if spec else None
    folders = (Path(root) / candidate for root in roots or () for candidate in candidates)
    return next((folder for folder in folders if folder.is_dir()), None)
