from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from fakes import ABORT, FINE, NoisyMeasurer  # type: ignore[import-not-found]

from autotune.engines import ENGINES, Engine
from autotune.spec.config import Config
from autotune.spec.device import Device, DeviceKind
from autotune.spec.problem import Problem
from autotune.studies.key import StudyKey
from autotune.studies.search.samplers import SAMPLERS
from autotune.studies.selection.finalists import Finalist
from autotune.studies.selection.select import Robust, select_winner
from autotune.studies.storage.open import open_storage
from autotune.studies.study_attributes import SearchTerms, attributes_of
from autotune.studies.study_record import open_study
from autotune.studies.trial_record import TrialRecord
from autotune.tuning.finals import MAX_ROUNDS, MIN_ROUNDS, measure_finalists
from autotune.tuning.jobs import Incumbent, Job, Origin
from autotune.tuning.processes.child import Child
from autotune.tuning.tuning_study import StudyPlan, TuningStudy

PROBLEM = Problem(8, 2, 512, 256, 1)
ROUTINGS = 4


@pytest.fixture
def child() -> Iterator[Child]:
    child = Child(NoisyMeasurer)
    yield child
    child.close()


@pytest.fixture
def study(database: str) -> TuningStudy:
    """Ten configs, of which the search believed that the slower ones are the faster ones."""
    space = NoisyMeasurer().space(PROBLEM)
    key = StudyKey(PROBLEM, NoisyMeasurer.device, space.fingerprint)
    sampler = SAMPLERS["grid"](space, 0)
    study = open_study(open_storage(database, create=True), key, sampler, {"model": "m"})
    configs = [Config(16, 32, 64, group, 4, FINE) for group in range(9)]
    entries = [TrialRecord(c, (50.0 - i,), 50.0 - i, i, True) for i, c in enumerate(configs)]
    incumbents = (Incumbent("sglang", Origin.DEFAULT, configs[0]),)
    plan = StudyPlan(Job(PROBLEM, ()), key, space, None, incumbents)
    tuning = TuningStudy(plan, study, SearchTerms("grid", 9, 0.0))
    for entry in entries:
        tuning.view.note(entry)
    return tuning


def _again(study: TuningStudy, **changes: Any) -> TuningStudy:
    """The same study, as another run opens it."""
    opened = replace(study, finalists=(), **changes)
    for entry in study.measured:
        opened.view.note(entry)
    return opened


def _stored(study: TuningStudy, count: int, robust: Robust = Robust.MEAN) -> list[Finalist]:
    return attributes_of(study.optuna_study).finalists(count, robust)


def test_what_search_believed_is_put_right(study: TuningStudy, child: Child) -> None:
    measure_finalists(study, child, lambda: False, 60)
    assert {f.config.group_size_m for f in study.finalists} == {0}  # the others have lost
    rounds = {len(finalist.samples_us) / ROUTINGS for finalist in study.finalists}
    assert len(rounds) == 1
    assert MIN_ROUNDS <= rounds.pop() <= MAX_ROUNDS
    incumbents = [incumbent.config for incumbent in study.plan.incumbents]
    winner = select_winner(study.finalists, incumbents, with_interval=True)
    assert winner is not None
    assert winner.is_incumbent  # search said 50 against 42 µs; measured side by side it is ahead


def test_it_is_kept_until_trials_come(study: TuningStudy, child: Child) -> None:
    measure_finalists(study, child, lambda: False, 60)
    stored = _stored(study, 9)
    assert [f.config for f in stored] == [f.config for f in study.finalists]
    assert _stored(study, 10) == []
    again = _again(study)
    child.kill()  # nothing is measured again
    measure_finalists(again, child, lambda: False, 60)
    assert list(again.finalists) == stored


def test_where_the_worst_loss_counts_finalists_of_the_mean_are_not_enough(
    study: TuningStudy, child: Child
) -> None:
    measure_finalists(study, child, lambda: False, 60)
    now = _again(study, robust=Robust.WORST)
    assert _stored(study, 9, Robust.WORST) == []
    measure_finalists(now, child, lambda: False, 60)
    assert {len(f.samples_us) for f in now.finalists} == {MAX_ROUNDS * ROUTINGS}
    stored = _stored(study, 9, Robust.WORST)
    assert [f.config for f in stored] == [f.config for f in now.finalists]
    assert _stored(study, 9) == stored  # more than the mean needs


def test_a_finalist_that_fails_now_is_none(study: TuningStudy, child: Child) -> None:
    fatal = Config(16, 32, 64, 1, 4, ABORT)
    study.view.note(TrialRecord(fatal, (1.0,), 1.0, 9, True))
    measure_finalists(study, child, lambda: False, 60)
    assert study.finalists
    assert fatal not in {finalist.config for finalist in study.finalists}


def test_where_all_of_them_fail_now_there_are_none(study: TuningStudy, child: Child) -> None:
    failing = replace(study)
    for group in range(2):
        failing.view.note(
            TrialRecord(Config(16, 32, 64, group, 4, ABORT), (1.0,), 1.0, group, True)
        )
    measure_finalists(failing, child, lambda: False, 60)
    assert failing.finalists == ()


def test_each_engine_has_finalists_that_it_can_launch(
    study: TuningStudy, child: Child, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The five fastest, and the default, are nothing for one of two engines."""
    legal = {"sglang": {1, 2, 3}, "vllm": set(range(9))}

    def may(engine: Engine, problem: Problem, device: Device, config: Config) -> bool:
        return config.group_size_m in legal[engine.name]

    monkeypatch.setattr("autotune.tuning.finals.may_write", may)
    job = Job(PROBLEM, (ENGINES["sglang"], ENGINES["vllm"]))
    both = _again(study, plan=replace(study.plan, job=job))
    measure_finalists(both, child, lambda: False, 60)
    assert {f.config.group_size_m for f in both.finalists} == {0, 1}


def test_estimates_have_no_noise_to_settle(study: TuningStudy, child: Child) -> None:
    device = replace(study.key.device, kind=DeviceKind.ESTIMATE)
    key = replace(study.key, device=device)
    estimated = _again(study, plan=replace(study.plan, key=key))
    measure_finalists(estimated, child, lambda: False, 60)
    assert estimated.finalists == ()


def test_what_the_engine_launches_by_itself_is_measured_again_whether_or_not_it_was_searched(
    study: TuningStudy, child: Child
) -> None:
    own = Config(16, 32, 64, 64, 4, FINE)
    plan = replace(study.plan, incumbents=(Incumbent("vllm", Origin.OWN, own),))
    again = _again(study, plan=plan)
    measure_finalists(again, child, lambda: False, 60)
    assert own in {finalist.config for finalist in again.finalists}
