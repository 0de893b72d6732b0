from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from fakes import FINE, FaultyMeasurer  # type: ignore[import-not-found]

from autotune.kernels.problem import Problem
from autotune.report.progress import PlainDisplay
from autotune.studies.key import StudyKey
from autotune.studies.record import outcome_counts
from autotune.studies.samplers import SAMPLERS
from autotune.studies.space import Space
from autotune.studies.storage import open_storage
from autotune.studies.store import open_study
from autotune.tune.child import Child
from autotune.tune.interrupt import Interrupt
from autotune.tune.loop import Loop
from autotune.tune.plan import Job, Unit

PROBLEM = Problem(8, 2, 512, 256, 1)


@pytest.fixture
def children() -> Iterator[list[Child]]:
    children = [Child(FaultyMeasurer) for _ in range(3)]
    yield children
    for child in children:
        child.close()


def _unit(database: str, space: Space, target: int) -> Unit:
    key = StudyKey(PROBLEM, FaultyMeasurer.device, space.fingerprint)
    sampler = SAMPLERS["grid"](space, 0)
    study = open_study(open_storage(database, create=True), key, sampler, {"model": "m"})
    return Unit(Job(PROBLEM, ()), key, space, study, {}, target, [])


def test_bad_configs_cost_one_trial_each(children: list[Child], database: str) -> None:
    space = FaultyMeasurer().space(PROBLEM)
    unit = _unit(database, space, target=len(space))
    for child in children:
        child.call("device")
    Loop([unit], children, [PlainDisplay()], Interrupt(), run_timeout_s=1.0).run()
    assert outcome_counts(unit.study.trials) == {"ok": 9, "crashed": 18, "run timeout": 9}
    assert unit.ended == "every config of the space was tried"
    reasons = {t.user_attrs.get("reason") for t in unit.study.trials}
    assert "the process died (signal SIGABRT)" in reasons
    assert "no answer in 1 s" in reasons


def test_nothing_but_failures_ends_a_study(children: list[Child], database: str) -> None:
    space = Space(c for c in FaultyMeasurer().space(PROBLEM).configs if c.num_stages != FINE)
    many = Space(
        type(c)(c.block_size_m, n, c.block_size_k, c.group_size_m, 4, 5)
        for c in space.configs
        for n in (32, 64, 128, 256, 512, 1024)
    )
    unit = _unit(database, many, target=1000)
    Loop([unit], children, [PlainDisplay()], Interrupt(), run_timeout_s=60).run()
    assert 40 <= unit.failures_in_a_row <= 42  # two more may be in flight
    assert "failures in a row; the last: RuntimeError: CUDA error" in unit.ended
    assert unit.study.user_attrs["finished"] == unit.ended


def test_after_the_deadline_nothing_is_asked(children: list[Child], database: str) -> None:
    unit = _unit(database, FaultyMeasurer().space(PROBLEM), target=5)
    late = time.monotonic() - 1
    Loop([unit], children, [PlainDisplay()], Interrupt(), run_timeout_s=60, deadline=late).run()
    assert unit.study.trials == []
