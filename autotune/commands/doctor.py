"""``doctor``: what this machine has, and what would stop or spoil a run."""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from autotune.commands.doctor_checks import Check, folder_check, gpu_checks
from autotune.commands.flags import add_device_flags, cache_dir, device_selector
from autotune.commands.output import Output
from autotune.commands.storage_flag import add_storage_flag
from autotune.engines import ENGINES, Engine
from autotune.errors import MissingStorageError, StorageError
from autotune.exit_codes import ExitCode
from autotune.report.terminal.tables import rows_table
from autotune.studies.storage.open import close_storage, open_storage
from autotune.studies.storage.url import public_url


def add_flags(parser: argparse.ArgumentParser) -> None:
    """What a run would use."""
    add_device_flags(parser)
    add_storage_flag(parser)


def run(flags: argparse.Namespace, output: Output) -> int:
    """1 where something would stop a run. ``docs/errors.md`` says what to do about each."""
    rows = [asdict(check) for check in _checks(flags)]
    output.result({"checks": rows}, rows_table(rows))
    return ExitCode.FAILED if any(row["state"] == "error" for row in rows) else ExitCode.DONE


def _checks(flags: argparse.Namespace) -> Iterator[Check]:
    yield Check("python", "ok", platform.python_version())
    yield from (_package(name) for name in ("torch", "triton", "optuna", "optuna-dashboard"))
    device = device_selector(flags)
    yield Check("device", "ok", f"--device {flags.device} is {device}")
    yield from gpu_checks(needed=device.startswith("cuda"))
    yield folder_check("cache folder", cache_dir(flags))
    triton_cache = Path(os.environ.get("TRITON_CACHE_DIR") or Path.home() / ".triton" / "cache")
    yield folder_check("Triton's cache", triton_cache)
    yield _storage(flags.storage)
    yield from (_engine(engine) for engine in ENGINES.values())


def _package(name: str) -> Check:
    try:
        return Check(name, "ok", importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        return Check(name, "error", f"not installed; try 'pip install {name}'")


def _storage(url: str) -> Check:
    try:
        close_storage(open_storage(url, create=False))
    except MissingStorageError:
        return Check("storage", "ok", f"{public_url(url)} will be made")
    except StorageError as error:
        return Check("storage", "error", str(error))
    return Check("storage", "ok", f"{public_url(url)} opens")


def _engine(engine: Engine) -> Check:
    """Which version, and where it looks for config files. The engine is never imported."""
    shipped = engine.installed_config_folder()
    if shipped is None:
        installed = "not installed here"
    else:
        installed = f"{_version(engine.name)} installed; its shipped configs are in {shipped}"
    value = os.environ.get(engine.env_variable)
    if not value:
        return Check(engine.title, "ok", f"{installed}; {engine.env_variable} is not set")
    env = f"{installed}; {engine.env_variable}={value}"
    if not Path(value).is_dir():
        return Check(engine.title, "warning", f"{env} is no folder: nothing is read there")
    return Check(engine.title, "ok", f"{env}: it looks there first")


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "an unknown version"
