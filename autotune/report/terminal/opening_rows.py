"""Which files engines look for, where, and what they launch: as rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from autotune.documents.lookups import FolderRow, LaunchRow, LookupRow
from autotune.engines import Engine
from autotune.engines.opening import Opening, folders_read, opening, sees_shipped
from autotune.engines.own_code.asking import installed_version
from autotune.errors import EngineFileError
from autotune.spec.config import config_from_keys
from autotune.spec.device import Device
from autotune.spec.problem import Problem
from autotune.tuning.jobs import files_dir

Asked = tuple[Engine, Problem, Device]
EnvFolder = Callable[[Engine, Problem, Device], Path | None]
"""Returns the value of an engine's environment variable."""


def written_to(output_dir: Path) -> EnvFolder:
    """Return the values that make engines read what a run writes under ``output_dir``."""

    def env_folder(engine: Engine, problem: Problem, device: Device) -> Path:
        return engine.env_folder(files_dir(output_dir, engine, problem, device))

    return env_folder


def lookup_rows(asked: Iterable[Asked], env_folder: EnvFolder) -> list[LookupRow]:
    """Return a row for each engine and file name: the folders in the engine's order, each with the
    file that is there now."""
    rows = (_lookup_row(*one, env_folder(*one)) for one in asked)
    return list({row.words: row for row in rows}.values())


def launch_rows(asked: Iterable[Asked], env_folder: EnvFolder) -> list[LaunchRow]:
    """Return a row for each engine and batch size: the config that it launches now, and why."""
    return [_launch_row(*one, env_folder(*one)) for one in asked]


def _lookup_row(
    engine: Engine, problem: Problem, device: Device, env_folder: Path | None
) -> LookupRow:
    names = [engine.file_name(problem, device)]
    if engine.has_down_file:
        names.append(engine.file_name(problem, device, down=True))
    folders = [
        _folder_row(engine, problem, device, folder, is_named=folder == env_folder)
        for folder in folders_read(engine, env_folder)
    ]
    version = version_words(engine)
    return LookupRow(
        engine=engine.name,
        version=version,
        files=tuple(names),
        folders=tuple(folders),
        own_code=engine.own_code or None,
        words=f"{engine.title} {version} looks for {' and '.join(names)} {_where(folders)}"
        f"{_asked_words(engine, len(names))}",
    )


def _asked_words(engine: Engine, names: int) -> str:
    """Say that the engine's own code makes the names, where it was asked."""
    if not engine.own_code:
        return ""
    this, name = ("this", "name") if names == 1 else ("these", "names")
    which = f"{this} {name}, where our rules differ" if engine.own_names else f"the same {name}"
    return f"; {engine.title}'s own code ({engine.own_code}) makes {which}"


def _folder_row(
    engine: Engine, problem: Problem, device: Device, folder: Path, *, is_named: bool
) -> FolderRow:
    file, fault = None, None
    try:
        found = opening(engine, [folder], problem, device).found
        file = found.path if found else None
    except EngineFileError as error:
        fault = str(error)
    return FolderRow(
        folder=engine.file_folder(folder, device),
        variable=engine.env_variable if is_named else None,
        file=file,
        fault=fault,
    )


def _where(folders: Sequence[FolderRow]) -> str:
    words = (f"in {each.folder} ({each.variable or 'shipped'}: {_state(each)})" for each in folders)
    return ", then ".join(words) or "in its shipped folder, which is not here"


def _state(folder: FolderRow) -> str:
    if folder.fault is not None:
        return f"broken: {folder.fault}"
    if folder.file is None:
        return "the file is not written yet" if folder.variable else "no such file"
    if folder.file.parent == folder.folder:
        return "there now"
    return f"there now for another Triton, in {folder.file.parent.name}"


def version_words(engine: Engine) -> str:
    """Return the installed version, or that of our rules where it is not installed."""
    if engine.package_folder() is None:
        return f"(rules of {engine.version}; not installed here)"
    return installed_version(engine.name)


def launch_words(row: LaunchRow) -> dict[str, Any]:
    """Return a row as a table for people has it."""
    config = str(config_from_keys(row.config)) if row.config else ""
    if row.down:
        config += f"; down {config_from_keys(row.down)}"
    return {
        "engine": row.engine,
        "batch_size": row.batch_size,
        "launches": config,
        "from": row.source,
    }


def _launch_row(
    engine: Engine, problem: Problem, device: Device, env_folder: Path | None
) -> LaunchRow:
    row = LaunchRow(
        engine=engine.name,
        batch_size=problem.tokens,
        config=None,
        down=None,
        file=None,
        source="",
    )
    try:
        opened = opening(engine, folders_read(engine, env_folder), problem, device)
    except EngineFileError as error:
        return replace(row, source=f"fails: {error}")
    return replace(
        row,
        config=opened.config.as_keys(),
        down=opened.down.config.as_keys() if opened.down else None,
        file=opened.found.path if opened.found else None,
        source=_source(engine, opened, env_folder),
    )


def _source(engine: Engine, opened: Opening, env_folder: Path | None) -> str:
    found = opened.found
    if found is None:
        unseen = not sees_shipped(engine, env_folder)
        why = "files that it ships are unknown here" if unseen else "no file"
        return f"{engine.title}'s default: {why}"
    other = f", of {found.path.parent.name}" if found.is_fallback else ""
    options = "".join(f", {name} {value}" for name, value in found.options)
    down = f"; down: key {opened.down.key} of its own file" if opened.down else ""
    return f"file, key {found.key}{other}{options}{down}"
