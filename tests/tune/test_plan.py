from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from autotune.devices.compiled import CompileCache
from autotune.kernels.binary import binary_key
from autotune.kernels.config import Config
from autotune.kernels.device import Device, DeviceKind, Target
from autotune.kernels.measurement import Resources
from autotune.kernels.problem import Problem
from autotune.settings import RunSettings
from autotune.studies.key import StudyKey
from autotune.studies.space import Space
from autotune.studies.storage import open_storage
from autotune.studies.surrogate import SurrogateSampler
from autotune.tune.plan import Job, Unit, UnitPlan, join_unit, open_unit

H200 = Device(DeviceKind.CUDA, "NVIDIA H200", Target("cuda", 90), 232448, "3.6.0")
PROBLEM = Problem(experts=8, top_k=2, hidden=512, intermediate=256, tokens=64)
SPACE = Space(Config(m, 64, 64, 1, 4, stages) for m in (16, 32, 64) for stages in (2, 3, 4))


def test_a_joined_unit_learns_what_another_batch_size_compiled(
    settings: Callable[..., RunSettings], database: str, tmp_path: Path
) -> None:
    """The static model's favourite turned out to spill."""
    key = StudyKey(PROBLEM, H200, SPACE.fingerprint)
    guess = tuple(100.0 + row for row in range(len(SPACE)))
    plan = UnitPlan(Job(PROBLEM, ()), key, SPACE, guess, {})
    storage, options = open_storage(database, create=True), settings(trials=5)
    open_unit(storage, plan, options)
    compiled = CompileCache(tmp_path / "compiled.jsonl", H200.target)
    unit = join_unit(storage, plan, options, compiled=compiled)
    favourite = SPACE.configs[0]
    assert _proposed(unit) == favourite
    for which in ("up", "down"):
        compiled.put(binary_key(PROBLEM, favourite, which), Resources(255, 4096, 65536))
    assert _proposed(unit) == SPACE.configs[1]


def _proposed(unit: Unit) -> Config:
    sampler = unit.study.sampler
    assert isinstance(sampler, SurrogateSampler)
    return Config.from_keys(sampler.propose(unit.study, 1)[0])
