"""Checks of a file together with its sibling: up and down share one alignment of tokens."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from autotune.engines.entries import as_tokens, load_body, nearest
from autotune.engines.finding import Finding, Level, assumed
from autotune.engines.names import NameParts
from autotune.engines.protocol import Engine
from autotune.errors import EngineFileError


def check_pair(
    path: Path, body: Mapping[str, Any], engine: Engine, parts: NameParts | None
) -> Iterator[Finding]:
    """Findings about an up file without its down file, the reverse, and where both disagree."""
    sibling = _sibling(path, engine, parts)
    if sibling is None or parts is None:
        return
    if not sibling.exists():
        yield from _check_missing(sibling, path, engine, parts)
        return
    try:
        other = load_body(sibling)
    except EngineFileError as error:
        yield Finding(Level.ERROR, "pair", str(error))
        return
    up, down = (other, body) if parts.down else (body, other)
    yield from _check_agreement(_block_m(up), _block_m(down))


def _sibling(path: Path, engine: Engine, parts: NameParts | None) -> Path | None:
    if parts is None:
        return None
    try:
        engine.spell(parts)
        return path.with_name(engine.spell(replace(parts, down=not parts.down)))
    except (ValueError, EngineFileError):  # an engine without down files; a device without a name
        return None


def _check_missing(
    sibling: Path, path: Path, engine: Engine, parts: NameParts
) -> Iterator[Finding]:
    """A missing up file is wrong; a missing down file only where an older one would step in."""
    if parts.down:
        message = f"{sibling.name} is missing: write up and down together, for the same tokens"
        yield Finding(Level.ERROR, "pair", message)
        return
    folder = engine.folder_of(path)
    if folder is None:
        return
    try:
        found = engine.lookup(folder, *assumed(parts), 1, down=True)
    except EngineFileError as error:
        yield Finding(Level.WARNING, "pair", str(error))
        return
    if found and found.path.name == sibling.name:
        message = f"without {sibling.name} here, the down GEMM takes its configs from {found.path}"
        yield Finding(Level.WARNING, "pair", message)


def _check_agreement(up: Mapping[int, Any], down: Mapping[int, Any]) -> Iterator[Finding]:
    """Takes BLOCK_SIZE_M by token count of both files."""
    if not up or not down:
        return
    if up.keys() != down.keys():
        listed = ", ".join(map(str, sorted(up.keys() ^ down.keys())))
        message = f"only one of the up and the down file has {listed} tokens: write the same keys"
        yield Finding(Level.WARNING, "pair", message)
    for tokens in sorted({*_turning_points(up), *_turning_points(down)}):
        pair = up[nearest(up, tokens)], down[nearest(down, tokens)]
        if pair[0] != pair[1]:
            message = (
                f"at {tokens} tokens up has BLOCK_SIZE_M {pair[0]} and down {pair[1]}; "
                "one alignment feeds both, so they must be equal"
            )
            yield Finding(Level.ERROR, "pair", message)
            return


def _turning_points(keys: Iterable[int]) -> set[int]:
    """Token counts that meet every choice of nearest key: the keys, and where two are as near."""
    known = sorted(set(keys))
    middles = {(a + b) // 2 + step for a, b in pairwise(known) for step in (0, 1)}
    return middles.union(known)


def _block_m(body: Mapping[str, Any]) -> dict[int, Any]:
    entries = ((as_tokens(key), entry) for key, entry in body.items())
    return {
        tokens: entry.get("BLOCK_SIZE_M")
        for tokens, entry in entries
        if tokens is not None and isinstance(entry, dict)
    }
