"""The engines' own packages, unpacked from wheels and never installed."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def engine_package(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return the folder that holds an engine's package, or skip where there is no wheel of it.

    ``pip download --no-deps --dest FOLDER --requirement tests/engines/wheels.txt`` brings them.
    """

    @cache
    def unpacked(name: str) -> Path:
        wheels = Path(os.environ.get("AUTOTUNE_ENGINE_WHEELS", "."))
        wheel = max(wheels.glob(f"{name}-*.whl"), default=None)
        if wheel is None:
            pytest.skip(f"AUTOTUNE_ENGINE_WHEELS names no folder with a wheel of {name}")
        folder = tmp_path_factory.mktemp(name)
        with zipfile.ZipFile(wheel) as archive:
            read = (m for m in archive.namelist() if m.endswith((".py", ".json")))
            archive.extractall(folder, read)
        return folder

    return unpacked
