"""``doctor``: what this machine has, and what would stop a run."""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import os
import platform
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from autotune.commands.flags import cache_dir, device_selector
from autotune.commands.output import Output
from autotune.engines import ENGINES
from autotune.errors import StorageError
from autotune.report.tables import rows_table
from autotune.studies.storage import open_storage, sqlite_path, storage_url

_MIN_FREE_BYTES = 2 << 30
"""A compile cache of a whole run takes a few hundred MB; a full disk stops everything."""


@dataclass(frozen=True, slots=True)
class Check:
    """One line: ``state`` is ok, warning or error."""

    what: str
    state: str
    detail: str


def doctor_command(args: argparse.Namespace, output: Output) -> int:
    """1 where something would stop a run."""
    rows = [asdict(check) for check in _checks(args)]
    output.result({"checks": rows}, rows_table(rows))
    return int(any(row["state"] == "error" for row in rows))


def _checks(args: argparse.Namespace) -> Iterator[Check]:
    yield Check("python", "ok", platform.python_version())
    yield from (_package(name) for name in ("torch", "triton", "optuna", "optuna-dashboard"))
    yield Check("device", "ok", f"--device auto is {device_selector(args)}")
    yield _folder("cache folder", cache_dir(args))
    triton_cache = Path(os.environ.get("TRITON_CACHE_DIR") or Path.home() / ".triton" / "cache")
    yield _folder("Triton's cache", triton_cache)
    yield _storage(args.storage)
    for engine in ENGINES.values():
        folder = engine.installed_config_folder()
        installed = f"installed; its shipped configs are in {folder}" if folder else "not installed"
        value = os.environ.get(engine.env_variable)
        env = f"{engine.env_variable}={value}" if value else f"{engine.env_variable} is not set"
        yield Check(engine.title, "ok", f"{installed}; {env}")


def _package(name: str) -> Check:
    try:
        return Check(name, "ok", importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        return Check(name, "error", f"not installed; try 'pip install {name}'")


def _folder(what: str, folder: Path) -> Check:
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        return Check(what, "error", f"{folder} cannot be written")
    free = shutil.disk_usage(existing).free
    state = "warning" if free < _MIN_FREE_BYTES else "ok"
    return Check(what, state, f"{folder}, {free / 2**30:.1f} GiB free")


def _storage(url: str) -> Check:
    path = sqlite_path(storage_url(url))
    if path is not None and not path.exists():
        return Check("storage", "ok", f"{path} will be made")
    try:
        open_storage(url, create=False).remove_session()
    except StorageError as error:
        return Check("storage", "error", str(error))
    return Check("storage", "ok", f"{path or 'database'} opens")
