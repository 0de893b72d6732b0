"""Settings that search a small recorded landscape."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from small_landscape import SHAPE, save_landscape  # type: ignore[import-not-found]

from autotune.settings import ModelSettings, RunSettings


@pytest.fixture
def landscape(tmp_path: Path) -> Path:
    return save_landscape(tmp_path / "small.npz")


@pytest.fixture
def settings(landscape: Path, tmp_path: Path) -> Callable[..., RunSettings]:
    """Makes settings that replay the landscape; keyword arguments replace fields. Samples at
    random: a worker then starts without what models of times import."""

    def make(**changes: Any) -> RunSettings:
        values: dict[str, Any] = {
            "model": ModelSettings(shape=SHAPE, batch_sizes=(1, 64)),
            "device": f"replay:{landscape}",
            "trials": 12,
            "sampler": "random",
            "output_dir": tmp_path / "configs",
            "cache_dir": tmp_path / "cache",
        }
        return RunSettings(**(values | changes))

    return make


@pytest.fixture
def database(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'autotune.db'}"
