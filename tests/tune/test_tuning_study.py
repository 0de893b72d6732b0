from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from autotune.backends.compile_cache import CompileCache
from autotune.settings import RunSettings
from autotune.spec.binary import binary_key
from autotune.spec.config import Config
from autotune.spec.device import Device, DeviceKind, Target
from autotune.spec.measurement import Resources
from autotune.spec.problem import Problem
from autotune.studies.key import StudyKey
from autotune.studies.search.surrogate.sampler import SurrogateSampler
from autotune.studies.space import Space
from autotune.studies.storage.open import open_storage
from autotune.studies.trial_record import Measured, asked_config
from autotune.tune.tuning_study import (
    CONVERGED,
    LAST_TRY,
    Job,
    StudyPlan,
    TuningStudy,
    join_tuning_study,
    open_tuning_study,
)

H200 = Device(DeviceKind.CUDA, "NVIDIA H200", Target("cuda", 90), 232448, "3.6.0")
PROBLEM = Problem(experts=8, top_k=2, hidden=512, intermediate=256, tokens=64)
SPACE = Space(Config(m, 64, 64, 1, 4, stages) for m in (16, 32, 64) for stages in (2, 3, 4))


def test_a_joined_unit_learns_what_another_batch_size_compiled(
    settings: Callable[..., RunSettings], database: str, tmp_path: Path
) -> None:
    """The static model's favourite turned out to spill."""
    key = StudyKey(PROBLEM, H200, SPACE.fingerprint)
    guess = tuple(100.0 + row for row in range(len(SPACE)))
    plan = StudyPlan(Job(PROBLEM, ()), key, SPACE, guess, {})
    storage, options = open_storage(database, create=True), settings(trials=5)
    open_tuning_study(storage, plan, options)
    compiled = CompileCache(tmp_path / "compiled.jsonl", H200.target)
    study = join_tuning_study(storage, plan, options, compiled=compiled)
    favourite = SPACE.configs[0]
    assert _proposed(study) == favourite
    for which in ("up", "down"):
        compiled.put(binary_key(PROBLEM, favourite, which), Resources(255, 4096, 65536))
    assert _proposed(study) == SPACE.configs[1]


def test_before_each_turn_the_neighbours_winners_are_queued_once(
    settings: Callable[..., RunSettings], database: str
) -> None:
    entries = [Measured(c, (9.0,), 9.0 - row, row, True) for row, c in enumerate(SPACE.configs)]
    near = SimpleNamespace(
        key=StudyKey(replace(PROBLEM, tokens=32), H200, SPACE.fingerprint), measured=entries[:7]
    )
    key = StudyKey(PROBLEM, H200, SPACE.fingerprint)
    plan = StudyPlan(Job(PROBLEM, ()), key, SPACE, None, {})
    study = open_tuning_study(open_storage(database, create=True), plan, settings(trials=5), [near])
    assert not study.take_hints()  # too little is known there
    near.measured = entries[:8]
    assert study.take_hints()
    assert not study.take_hints()
    near.measured = entries[:9]
    assert study.take_hints()
    queued = [(asked_config(t), t.user_attrs["source"]) for t in study.optuna_study.trials]
    assert queued == [(SPACE.configs[row], "best at 32 tokens") for row in (7, 8)]


def test_before_a_study_ends_the_bests_other_groups_are_queued_once(
    settings: Callable[..., RunSettings], database: str
) -> None:
    space = Space(Config(m, 64, 64, group, 4, 3) for m in (16, 32) for group in (1, 8, 32))
    plan = StudyPlan(Job(PROBLEM, ()), StudyKey(PROBLEM, H200, space.fingerprint), space, None, {})
    study = open_tuning_study(open_storage(database, create=True), plan, settings(trials=5))
    best = Config(32, 64, 64, 8, 4, 3)
    study.entries = [Measured(best, (9.0,), 9.0, 0, complete=True)]
    assert not study.add_last_tries()
    study.ended = "40 failures in a row"
    assert not study.add_last_tries()
    study.ended = f"{CONVERGED}: 0.1 % expected of the next trial"
    assert study.add_last_tries()
    assert not study.add_last_tries()
    queued = [(asked_config(t), t.user_attrs["source"]) for t in study.optuna_study.trials]
    assert queued == [(replace(best, group_size_m=g), LAST_TRY) for g in (1, 8, 32)]
    study.entries = [Measured(Config(16, 64, 64, 1, 4, 3), (8.0,), 8.0, 0, complete=True)]
    assert study.add_last_tries()
    assert len(study.optuna_study.trials) == 5  # no more than the target


@pytest.mark.parametrize(
    ("changes", "usual"),
    [
        ({}, 30),
        ({"trials": 12}, 12),
        ({"stop_gain": 0.0}, 60),
        ({"sampler": "tpe"}, 60),
        ({"sampler": "tpe", "trials": 400}, 81),
    ],
)
def test_when_a_study_usually_ends(
    settings: Callable[..., RunSettings], database: str, changes: dict[str, Any], usual: int
) -> None:
    sizes = (16, 32, 64)
    space = Space(Config(m, n, k, 1, 4, s) for m in sizes for n in sizes for k in sizes
                  for s in (2, 3, 4))  # fmt: skip
    key = StudyKey(PROBLEM, H200, space.fingerprint)
    plan = StudyPlan(Job(PROBLEM, ()), key, space, (1.0,) * len(space), {})
    storage = open_storage(database, create=True)
    study = open_tuning_study(storage, plan, settings(**{"trials": 60, **changes}))
    assert study.usual_end == usual


def _proposed(study: TuningStudy) -> Config:
    sampler = study.optuna_study.sampler
    assert isinstance(sampler, SurrogateSampler)
    return Config.from_keys(sampler.propose(study.optuna_study, 1)[0])
