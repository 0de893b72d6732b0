"""Configs from engine files that are worth an early measurement.

On an H200 the file that an engine ships for another Triton version costs 1 to 10 % more than the
best config, the best of the neighbouring batch size 0 to 20 %.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from autotune.engines import ENGINES, Engine
from autotune.engines.base import entries_by_tokens
from autotune.engines.entries import config_of, load_body, nearest
from autotune.engines.names import NameParts
from autotune.errors import EngineFileError
from autotune.spec.config import AnyConfig, Config
from autotune.spec.device import Device
from autotune.spec.problem import KernelMode, Problem
from autotune.studies.pairs import completed_as_asked

_log = logging.getLogger(__name__)

_MOST = 4
"""Distinct configs that one folder may put before a study. SGLang has files for eight versions
of Triton, much alike."""
_DOWN = "_down"


@dataclass(frozen=True, slots=True)
class _File:
    """An engine file for a problem, under whatever device and Triton version."""

    path: Path
    is_own_device: bool

    def rank(self, device: Device) -> tuple[bool, list[int]]:
        """The device's own Triton version first, then the newest; vLLM's folder has none."""
        version = _version(self.path.parent.name)
        own = _version(device.triton_version)
        return version not in ([], own), [-number for number in version]


def file_configs(
    problem: Problem, device: Device, engines: Sequence[Engine], paths: Sequence[Path]
) -> Iterator[tuple[AnyConfig, str]]:
    """Yield what the files of ``paths``, and those that installed engines ship, say for the nearest
    batch size; each config as ``engines`` launch it, with its source in words.

    A file is taken whatever its name; of a folder those whose name fits the problem, of other
    devices where there are none of this one. Raises EngineFileError where one of ``paths`` is no
    engine file, or a folder without any.
    """
    for path in paths:
        if path.is_dir():
            yield from _of_folder(problem, device, engines, path, is_asked_for=True)
        elif path.exists():
            yield from _of_file(problem, device, engines, path)
        else:
            _log.warning("no warm start: %s does not exist any more", path)
    for engine in ENGINES.values():
        folder = engine.installed_config_folder()
        if folder is not None:
            yield from _of_folder(problem, device, engines, folder, is_asked_for=False)


def shipped_config(engine: Engine, problem: Problem, device: Device) -> AnyConfig | None:
    """Return what an installed engine would launch by its own files: a baseline to beat."""
    folder = engine.installed_config_folder()
    if folder is None:
        return None
    try:
        found = engine.lookup(folder, problem, device, problem.tokens)
        down = None
        if found is not None and problem.kernel is KernelMode.SEPARATE:
            down = engine.lookup(folder, problem, device, problem.tokens, down=True)
    except (EngineFileError, ValueError):  # it has no file for such a problem, or a broken one
        return None
    if found is None:
        return None
    for option, value in found.options:
        _say_left_out(found.path, found.key, option, value)
    up = engine.launched(problem, found.config)
    return completed_as_asked(problem, device, up, down.config if down else None)


@cache
def _say_left_out(path: Path, key: int, option: str, value: object) -> None:
    _log.warning(
        "%s at %d tokens: it is tried without %s %s, which no config here can have",
        path,
        key,
        option,
        value,
    )


def _of_folder(
    problem: Problem,
    device: Device,
    engines: Sequence[Engine],
    folder: Path,
    *,
    is_asked_for: bool,
) -> Iterator[tuple[AnyConfig, str]]:
    files = _fitting(folder, replace(problem, tokens=1), device)
    if not files and is_asked_for:
        _say_what_is_there(folder, _names(replace(problem, tokens=1), device))
    found: set[AnyConfig] = set()
    for file in files:
        try:
            told = list(_of_file(problem, device, engines, file.path))
        except EngineFileError:
            if is_asked_for:
                raise
            continue
        for config, source in told:
            if config not in found and len(found) < _MOST:
                found.add(config)
                yield config, source


def _of_file(
    problem: Problem, device: Device, engines: Sequence[Engine], path: Path
) -> Iterator[tuple[AnyConfig, str]]:
    config = _nearest(path, problem.tokens)
    if config is None:
        return
    down_path, down = path.with_name(f"{path.stem}{_DOWN}{path.suffix}"), None
    if problem.kernel is KernelMode.SEPARATE and down_path.exists():
        down = _nearest(down_path, problem.tokens)
    launched = dict.fromkeys(engine.launched(problem, config) for engine in engines)
    for as_launched in launched:
        source = f"warm start {path.parent.name}/{path.name}"
        yield completed_as_asked(problem, device, as_launched, down), source


def _nearest(path: Path, tokens: int) -> Config | None:
    entries = _entries(path)
    return entries[nearest(entries, tokens)] if entries else None


@cache
def _entries(path: Path) -> dict[int, Config]:
    """Token count → config. Unlike ``read_configs`` it passes nothing over."""
    header = frozenset[str]().union(*(engine.header for engine in ENGINES.values()))
    body = load_body(path)
    try:
        entries = entries_by_tokens(body, header)
        return {tokens: _config(tokens, entry) for tokens, entry in entries.items()}
    except (EngineFileError, ValueError) as error:
        raise EngineFileError(
            f"{path} is no engine file: {error}. Mend or remove the entry, or leave the file out "
            "of --warm-start"
        ) from error


def _config(tokens: int, entry: object) -> Config:
    try:
        return config_of(entry)
    except ValueError as error:
        raise ValueError(f"in the entry for {tokens} tokens, {error}") from error


@cache
def _fitting(folder: Path, problem: Problem, device: Device) -> tuple[_File, ...]:
    """The up files for the problem, the most alike first."""
    files = []
    for path in sorted(folder.rglob("*.json")):
        for engine in ENGINES.values():
            parts, wanted = engine.parse_name(path.name), _parts(engine, problem, device)
            if parts is None or wanted is None or parts.down:
                continue
            if replace(parts, device_name=wanted.device_name) == wanted:
                files.append(_File(path, parts.device_name == wanted.device_name))
                break
    own = [file for file in files if file.is_own_device]
    return tuple(sorted(own or files, key=lambda file: file.rank(device)))


def _parts(engine: Engine, problem: Problem, device: Device) -> NameParts | None:
    """Return the parts of the name that the engine looks for; None where it has none."""
    try:
        return engine.parse_name(engine.file_name(problem, device))
    except (EngineFileError, ValueError):
        return None


@cache
def _say_what_is_there(folder: Path, wanted: tuple[str, ...]) -> None:
    """Once for each folder and layer, of which engines open ``wanted``. Raises EngineFileError
    where no name is an engine's."""
    names = {path.name for path in folder.rglob("*.json")}
    if not any(engine.parse_name(name) for engine in ENGINES.values() for name in names):
        raise EngineFileError(
            f"--warm-start {folder} holds no engine file (E=…,N=…,device_name=….json). Give the "
            "folder of an engine's configs, or a file"
        )
    _log.warning(
        "no warm start from %s: it has neither %s, nor the same of another GPU",
        folder,
        " nor ".join(wanted),
    )


def _names(problem: Problem, device: Device) -> tuple[str, ...]:
    """Return the names of the files that engines open for the problem; none where they refuse."""
    found: dict[str, None] = {}
    for engine in ENGINES.values():
        with suppress(EngineFileError, ValueError):
            found[engine.file_name(problem, device)] = None
    return tuple(found)


def _version(text: str) -> list[int]:
    """ "triton_3_6_0" and "3.6.0" are [3, 6, 0]; empty where there are no three numbers."""
    match = re.search(r"(\d+)[._](\d+)[._](\d+)", text)
    return [int(number) for number in match.groups()] if match else []
