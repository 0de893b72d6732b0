"""What an engine opens and launches for a problem, by its lookup over the folders that it reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from autotune.engines.base import Engine, Found
from autotune.spec.config import Config
from autotune.spec.device import Device
from autotune.spec.problem import Problem


@dataclass(frozen=True, slots=True)
class Opening:
    """The answer of an engine's lookup for one batch size."""

    config: Config
    """What the up GEMM is launched with, and the down GEMM where it has none of its own."""
    found: Found | None
    """None: no file was found, and ``config`` is the engine's default."""
    down: Found | None = None
    """The down GEMM's own file, where there is one."""


def folders_read(engine: Engine, env_folder: Path | None) -> list[Path]:
    """Return the folders that an engine looks into, in its order: that of its environment variable,
    if any, and the shipped one where it is installed and still read."""
    shipped = engine.installed_config_folder()
    if env_folder is not None and (engine.env_replaces or shipped is None):
        return [env_folder]
    return [folder for folder in (env_folder, shipped) if folder is not None]


def sees_shipped(engine: Engine, env_folder: Path | None) -> bool:
    """False where the engine would look into its shipped folder too, which is not here."""
    is_read = env_folder is None or not engine.env_replaces
    return not is_read or engine.installed_config_folder() is not None


def opening(engine: Engine, folders: Sequence[Path], problem: Problem, device: Device) -> Opening:
    """Return what the engine launches for ``problem.tokens``. Raises EngineFileError for a file
    that it would fail on."""
    found = _first(engine, folders, problem, device, down=False)
    if found is None:
        return Opening(engine.default_config(problem, device), None)
    down = _first(engine, folders, problem, device, down=True) if engine.has_down_file else None
    if down is None or down.path == found.path:
        return Opening(engine.launched(problem, found.config), found)
    shared = replace(down.config, block_size_m=found.config.block_size_m)  # one alignment for both
    return Opening(engine.launched(problem, found.config), found, replace(down, config=shared))


def _first(
    engine: Engine, folders: Sequence[Path], problem: Problem, device: Device, *, down: bool
) -> Found | None:
    asked = (engine.lookup(f, problem, device, problem.tokens, down=down) for f in folders)
    return next((found for found in asked if found is not None), None)
