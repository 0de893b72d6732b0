"""Writing winners into engine files without losing what is there, and reading them back."""

from __future__ import annotations

import errno
import filecmp
import logging
import os
import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from autotune.engines import atomic
from autotune.engines.base import Engine
from autotune.engines.entries import as_tokens, config_of, dump_body, faults, load_body, options_of
from autotune.errors import EngineFileError
from autotune.spec.config import Config
from autotune.spec.device import Device
from autotune.spec.problem import Problem

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class WrittenFile:
    """The change of one engine file."""

    path: Path
    written: tuple[int, ...]
    """Token counts of this call."""
    notes: tuple[str, ...]
    """Sentences that a user should read; empty when there is nothing to know."""


@dataclass(frozen=True, slots=True)
class _Existing:
    """The content of a file before it is merged into."""

    entries: Mapping[int, Any]
    """Entries that stay, by token count."""
    other: Mapping[str, Any]
    """Keys that are not token counts, and token counts without an entry."""
    is_readable: bool


def write_configs(
    engine: Engine,
    path: Path,
    configs: Mapping[int, Config],
    problem: Problem,
    device: Device,
    *,
    options: Mapping[int, Mapping[str, Any]] = MappingProxyType({}),
) -> WrittenFile:
    """Merge ``configs`` (by token count) into the file and proves that the engine reads them.

    ``options`` are keys of entries that no Config has, by token count, such as ``num_ctas``.
    Entries for other token counts stay verbatim, whoever wrote them. A file that is not an
    engine's JSON, or has keys that are not token counts, is first copied to ``<name>.bak``
    (``.bak2``, …); what can be read of it is kept. The change is atomic, and two processes may
    write at once. Raises EngineFileError where a config is illegal, the path is not one that the
    engine would read, the disk refuses, or the engine's lookup returns something else.
    """
    if not configs:
        raise ValueError("no configs to write")
    down = _is_down(engine, path, problem, device)
    body = engine.body(configs, problem, device)
    body |= {str(tokens): body[str(tokens)] | more for tokens, more in options.items()}
    with _explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic.locked(path):
            existing = _existing(path, without=configs)
            notes = [*_shared(engine, path, problem), *_notes(engine, existing, body)]
            if not existing.is_readable or existing.other.keys() - engine.header:
                name = backup(path)
                notes.append(f"{path.name} had parts that are no configs; it is kept as {name}")
            atomic.write_text(path, dump_body(_merged(body, existing.entries)))
            _prove(engine, path, configs, problem, device, down=down)
    return WrittenFile(path, tuple(sorted(configs)), tuple(notes))


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold a file, and the one for the down GEMM beside it, from reading to writing: what another
    process writes in between would be lost. Raises EngineFileError where it cannot be held."""
    with ExitStack() as stack:
        with _explained(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(atomic.locked(path.with_suffix("")))
        yield


def read_configs(path: Path) -> dict[int, Config]:
    """Return the configs of a file of any engine, for warm starts, in the file's order.

    What cannot be a Config is left out, and a file that cannot be read gives none: both are
    logged. A missing file gives none.
    """
    if not path.exists():
        return {}
    try:
        body = load_body(path)
    except EngineFileError as error:
        logger.warning("no warm start: %s", error)
        return {}
    configs: dict[int, Config] = {}
    for key, entry in body.items():
        tokens = as_tokens(key)
        if tokens is None:
            continue
        try:
            configs[tokens] = config_of(entry)
            for option, value in options_of(entry).items():
                logger.warning("%s at %s tokens: %s %s is left out", path, key, option, value)
        except ValueError as error:
            logger.warning("%s: no warm start from the entry for %s tokens: %s", path, key, error)
    return configs


def _is_down(engine: Engine, path: Path, problem: Problem, device: Device) -> bool:
    """Return whether ``path`` is the down file. Raises EngineFileError if it is never read."""
    parts = engine.parse_name(path.name)
    down = parts is not None and parts.down
    try:
        expected = engine.file_name(problem, device, down=down)
    except ValueError as error:
        raise EngineFileError(f"{path.name}: {error}") from error
    if path.name != expected or engine.folder_of(path) is None:
        raise EngineFileError(
            f"{engine.title} would never read {path}; it looks for {expected} "
            f"under {engine.path(Path('OUTPUT_DIR'), problem, device).parent}"
        )
    return down


def _existing(path: Path, *, without: Collection[int]) -> _Existing:
    """Read what the file holds beside the entries for the token counts ``without``."""
    if not path.exists():
        return _Existing({}, {}, is_readable=True)
    try:
        body = load_body(path)
    except EngineFileError as error:
        if isinstance(error.__cause__, OSError):
            raise
        return _Existing({}, {}, is_readable=False)
    other = {k: e for k, e in body.items() if not isinstance(e, dict) or as_tokens(k) is None}
    entries = {int(key): entry for key, entry in body.items() if key not in other}
    kept = {tokens: entry for tokens, entry in entries.items() if tokens not in without}
    return _Existing(kept, other, is_readable=True)


def _shared(engine: Engine, path: Path, problem: Problem) -> Iterator[str]:
    """vLLM has one file for bf16 and int8_w8a8."""
    parts = engine.parse_name(path.name)
    if problem.dtype.is_quantized and parts and not parts.dtype:
        yield (
            f"{engine.title} reads {path.name} for bf16 too, not for {problem.dtype.value} alone: "
            "serve other models from another folder"
        )


def _notes(engine: Engine, existing: _Existing, body: Mapping[str, Any]) -> list[str]:
    """Say what is to be known about the entries that stay."""
    notes = [
        f"{key} was {value}, is now {body[key]}: the entries that stay were tuned with {value}"
        for key, value in existing.other.items()
        if existing.entries and key in body and body[key] != value
    ]
    for tokens, entry in sorted(existing.entries.items()):
        if fault := next(faults(entry, engine.keys), None):
            notes.append(f"{engine.title} cannot launch the entry for {tokens} tokens: {fault}")
    return notes


def backup(path: Path) -> str:
    """Copy the file beside itself under a name that is free, or whose file is the same; return that
    name. Raises EngineFileError where the disk refuses."""
    names = (f"{path.name}.bak{number if number > 1 else ''}" for number in range(1, 10_000))
    copies = (path.with_name(name) for name in names)
    with _explained(path):
        for copy in copies:
            if not os.path.lexists(copy):
                shutil.copy2(path, copy)
                break
            if not copy.is_symlink() and filecmp.cmp(path, copy, shallow=False):
                break
    return copy.name


def _merged(body: Mapping[str, Any], kept: Mapping[int, Any]) -> dict[str, Any]:
    """Our header, then all entries by ascending token count: on ties engines take the first."""
    entries = {m: e for k, e in body.items() if (m := as_tokens(k)) is not None}
    header = {key: value for key, value in body.items() if as_tokens(key) is None}
    everything = {**kept, **entries}
    return header | {str(tokens): everything[tokens] for tokens in sorted(everything)}


def _prove(
    engine: Engine,
    path: Path,
    configs: Mapping[int, Config],
    problem: Problem,
    device: Device,
    *,
    down: bool,
) -> None:
    """Raises EngineFileError unless the engine's lookup gives every config back from ``path``."""
    folder = engine.folder_of(path) or path.parent
    expected = engine.parse(engine.body(configs, problem, device))
    for tokens, config in expected.items():
        found = engine.lookup(folder, problem, device, tokens, down=down)
        if found is None or not found.path.samefile(path):
            raise EngineFileError(
                f"{path} is written, but {engine.title} would read "
                f"{found.path if found else 'its defaults'} instead. Move that file away, or "
                "choose another --output-dir"
            )
        if (found.key, found.config) != (tokens, config):
            raise EngineFileError(
                f"{path} does not give back what was written for {tokens} tokens: {config} became "
                f"{found.config} (key {found.key}). Is something else writing it? Export again"
            )


_ADVICE = {
    errno.ENOSPC: "free some space, or choose an --output-dir on another disk",
    errno.EDQUOT: "free some of your quota, or choose an --output-dir on another disk",
    errno.EACCES: "make the folder writable, or choose another --output-dir",
    errno.EPERM: "make the folder writable, or choose another --output-dir",
    errno.EROFS: "choose an --output-dir on a disk that can be written",
    errno.EEXIST: "a file stands where a folder is needed: move it, or choose another --output-dir",
    errno.ENOTDIR: "a part of the path is a file: move it, or choose another --output-dir",
    errno.EISDIR: "a folder stands where the file is needed: move it",
}


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn what the disk says into an EngineFileError with what to try."""
    try:
        yield
    except OSError as error:
        advice = _ADVICE.get(error.errno or 0, "choose another --output-dir, or try again")
        reason = error.strerror or str(error)
        raise EngineFileError(f"{path} cannot be written ({reason}): {advice}") from error
