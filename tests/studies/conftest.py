"""A small problem on a known device, and storages in a temporary folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from autotune.spec.device import Device, DeviceKind, Target
from autotune.spec.problem import Problem
from autotune.studies.key import StudyKey
from autotune.studies.space import Space, moe_space


@pytest.fixture
def problem() -> Problem:
    return Problem(experts=128, top_k=8, hidden=2048, intermediate=768, tokens=64)


@pytest.fixture
def h200() -> Device:
    return Device(DeviceKind.ESTIMATE, "NVIDIA H200", Target("cuda", 90), 232448, "3.6.0")


@pytest.fixture
def space(problem: Problem, h200: Device) -> Space:
    return moe_space(problem, h200)


@pytest.fixture
def key(problem: Problem, h200: Device, space: Space) -> StudyKey:
    return StudyKey(problem, h200, space.fingerprint)


@pytest.fixture
def database(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'autotune.db'}"
