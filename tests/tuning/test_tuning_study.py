from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from optuna.samplers import RandomSampler
from optuna.study import Study
from trials import ask, tell  # type: ignore[import-not-found]

from autotune.backends.compile_cache import CompileCache
from autotune.backends.gpu.providers import OURS
from autotune.settings import RunSettings
from autotune.spec.binary import binary_key
from autotune.spec.config import Config
from autotune.spec.device import Device, DeviceKind, Target
from autotune.spec.measurement import Measurement, Resources
from autotune.spec.problem import Problem
from autotune.studies.key import StudyKey
from autotune.studies.lifecycle import Draining, EndReason, Finished, Searching, StudyEnd
from autotune.studies.outcome import Outcome, TrialResult
from autotune.studies.search.surrogate.sampler import SurrogateSampler
from autotune.studies.selection.finalists import Finalist
from autotune.studies.space import Space
from autotune.studies.storage.open import open_storage
from autotune.studies.study_attributes import (
    SearchTerms,
    StudyAttributes,
    attributes_of,
    write_finalists,
)
from autotune.studies.study_record import MeasuredStudy, open_study
from autotune.studies.trial_io import enqueue
from autotune.studies.trial_record import TrialRecord, asked_config
from autotune.tuning.jobs import Job
from autotune.tuning.open_studies import begun_by, join_studies, open_studies, promising
from autotune.tuning.tuning_study import LAST_TRY, StudyPlan, TuningStudy

H200 = Device(DeviceKind.CUDA, "NVIDIA H200", Target("cuda", 90), 232448, "3.6.0")
PROBLEM = Problem(experts=8, top_k=2, hidden=512, intermediate=256, tokens=64)
SPACE = Space(Config(m, 64, 64, 1, 4, stages) for m in (16, 32, 64) for stages in (2, 3, 4))


def test_a_joined_study_learns_what_another_batch_size_compiled(
    settings: Callable[..., RunSettings], database: str, tmp_path: Path
) -> None:
    """The static model's favourite turned out to spill."""
    key = StudyKey(PROBLEM, H200, SPACE.fingerprint)
    guess = tuple(100.0 + row for row in range(len(SPACE)))
    plan = StudyPlan(Job(PROBLEM, ()), key, SPACE, guess, ())
    storage, options = open_storage(database, create=True), settings(sampler="surrogate", trials=5)
    open_studies(storage, [plan], options)
    compiled = CompileCache(tmp_path / "compiled.jsonl", H200.target)
    [study] = join_studies(storage, [plan], options, worker=0, compiled=compiled)
    favourite = SPACE.configs[0]
    assert _proposed(study) == favourite
    for which in ("up", "down"):
        compiled.put(binary_key(PROBLEM, favourite, which), Resources(255, 4096, 65536))
    assert _proposed(study) == SPACE.configs[1]


def test_batch_sizes_begin_with_their_best_guess_and_with_what_most_of_them_guess() -> None:
    space = Space(Config(16, 32, 64, group, 4, 3) for group in range(1, 13))
    first = ([0, 1, 2, 3, 4, 5], [6, 5, 7, 8, 9, 10], [5, 6, 11, 7, 1, 3])
    orders = [[*best, *(row for row in range(12) if row not in best)] for best in first]
    guessed = [(space, tuple(float(order.index(row)) for row in range(12))) for order in orders]
    found = promising([*guessed, (space, None)], 2)
    assert found == [[space.configs[row] for row in rows] for rows in ([0, 5], [6, 5], [5, 6], [])]
    assert promising(guessed[:1], 3) == [list(space.configs[:3])]  # alone, its guess decides
    assert promising(guessed, 0) == [[], [], []]


def test_joined_studies_of_one_kernel_share_what_they_compile(
    settings: Callable[..., RunSettings], database: str
) -> None:
    """The batch sizes of a kernel share, whatever a second engine's studies have begun."""
    problems = [replace(PROBLEM, tokens=tokens) for tokens in (1, 2, 4)]
    jobs = [
        Job(p, (), provider) for p, provider in zip(problems, (OURS, OURS, "vllm"), strict=True)
    ]
    keys = [StudyKey(problem, H200, SPACE.fingerprint) for problem in problems]
    plans = [StudyPlan(j, k, SPACE, None, ()) for j, k in zip(jobs, keys, strict=True)]
    storage, options = open_storage(database, create=True), settings(trials=5)
    open_studies(storage, plans, options)
    studies = join_studies(storage, plans, options, worker=0, compiled=None)
    for study, config in zip(studies, SPACE.configs, strict=False):
        enqueue(study.optuna_study, SPACE, [(config, "test")])
        study.view.read()
    assert begun_by(studies, OURS) == set(SPACE.configs[:2])
    assert begun_by(studies, "vllm") == {SPACE.configs[2]}


def test_before_each_turn_the_neighbours_winners_are_queued_once(
    settings: Callable[..., RunSettings], database: str
) -> None:
    entries = [TrialRecord(c, (9.0,), 9.0 - row, row, True) for row, c in enumerate(SPACE.configs)]
    near = MeasuredStudy(
        "near",
        StudyKey(replace(PROBLEM, tokens=32), H200, SPACE.fingerprint),
        StudyAttributes({}),
        entries[:7],
    )
    key = StudyKey(PROBLEM, H200, SPACE.fingerprint)
    plan = StudyPlan(Job(PROBLEM, ()), key, SPACE, None, ())
    storage = open_storage(database, create=True)
    [study], history = open_studies(storage, [plan], settings(trials=5))
    history.add([near])
    for count, queued in ((7, []), (8, [7]), (8, [7]), (9, [7, 8])):  # too little is known of 7
        near.measured[:] = entries[:count]
        study.queue_neighbours()
        found = [(asked_config(t), t.user_attrs["source"]) for t in study.view.waiting]
        assert found == [(SPACE.configs[row], "best at 32 tokens") for row in queued]


def test_a_finished_study_is_opened_with_its_finalists(
    settings: Callable[..., RunSettings], database: str
) -> None:
    """Else a run that goes on would write what single trials say over what finals said."""
    key = StudyKey(PROBLEM, H200, SPACE.fingerprint)
    plan = StudyPlan(Job(PROBLEM, ()), key, SPACE, None, ())
    storage = open_storage(database, create=True)
    [study], _ = open_studies(storage, [plan], settings(trials=2))
    for _ in range(2):
        result = TrialResult(Outcome.OK, Measurement((10.0, 11.0), "made up"))
        tell(study.optuna_study, ask(study.optuna_study, SPACE), result, None)
    finalist = Finalist(SPACE.configs[0], (9.0, 9.5))
    write_finalists(study.optuna_study, [finalist], 2, settings().robust)
    [again], _ = open_studies(storage, [plan], settings(trials=2))
    assert again.finalists == (finalist,)
    [more], _ = open_studies(storage, [plan], settings(trials=5))
    assert more.finalists == ()


class EndingSampler(RandomSampler):
    """A sampler that has always had enough."""

    def propose(self, study: Study, count: int) -> list[dict[str, Any]]:
        return []

    def likely(self, study: Study, count: int) -> list[dict[str, Any]]:
        return []

    def expected_gain(self, study: Study) -> float:
        return 0.001


BEST = Config(32, 64, 64, 8, 4, 3)
GROUPED = Space(
    [
        *(Config(m, 64, 64, group, 4, 3) for m in (16, 32) for group in (1, 8, 32)),
        replace(BEST, block_size_n=128),
    ]
)


def _ending(
    database: str, *, target: int = 5, end: StudyEnd | None = None, provider: str = OURS
) -> TuningStudy:
    """A study whose sampler wants no more, with its best config measured."""
    key = StudyKey(PROBLEM, H200, GROUPED.fingerprint)
    storage = open_storage(database, create=True)
    study = open_study(storage, key, EndingSampler(), {})
    plan = StudyPlan(Job(PROBLEM, (), provider), key, GROUPED, None, ())
    opened = TuningStudy(plan, study, SearchTerms("ending", target, stop_gain=0.01), end=end)
    if not study.trials:
        _measure(opened, BEST, 9.0)
    return opened


def _measure(study: TuningStudy, config: Config, us: float) -> None:
    """Measure a config, or the one that is queued."""
    if not study.is_queued:
        enqueue(study.optuna_study, study.space, [(config, "test")])
    result = TrialResult(Outcome.OK, Measurement((us,), "made up"))
    tell(study.optuna_study, ask(study.optuna_study, study.space), result, None)
    study.view.read()


def _queued(study: TuningStudy) -> list[object]:
    study.view.read()
    return [asked_config(trial) for trial in study.view.waiting]


def test_before_a_converged_study_ends_the_bests_other_groups_are_queued_once(
    database: str,
) -> None:
    study = _ending(database)
    assert study.advance() == Searching()
    others = [replace(BEST, group_size_m=group) for group in (1, 32)]
    assert _queued(study) == others
    assert {t.user_attrs["source"] for t in study.view.waiting} == {LAST_TRY}
    assert study.advance() == Searching()  # they wait to be asked
    for us in (10.0, 11.0):
        _measure(study, BEST, us)
    end = StudyEnd.converged(0.001)
    assert study.advance() == Finished(end)
    assert _queued(study) == []
    assert attributes_of(study.optuna_study).end == study.end == end


def test_to_an_engines_kernel_another_group_is_another_compile_and_no_last_try(
    database: str,
) -> None:
    study = _ending(database, provider="vllm")
    assert study.advance() == Searching()
    assert _queued(study) == [replace(BEST, block_size_n=128)]
    _measure(study, BEST, 10.0)
    assert study.advance() == Finished(StudyEnd.converged(0.001))


def test_no_more_than_the_target_is_queued(database: str) -> None:
    study = _ending(database, target=2)
    assert study.advance() == Searching()
    assert len(_queued(study)) == 1
    _measure(study, BEST, 10.0)
    assert study.advance() == Finished(StudyEnd(EndReason.TARGET))
    assert study.end is None
    assert attributes_of(study.optuna_study).end is None  # the next run may want more


def test_a_study_that_failed_has_no_last_tries(database: str) -> None:
    end = StudyEnd.failed(["out of luck"] * 40)
    study = _ending(database, end=end)
    assert study.advance() == Finished(end)
    assert _queued(study) == []


def test_while_trials_are_in_work_an_end_is_kept_to_oneself(database: str) -> None:
    study = _ending(database)
    end = StudyEnd.converged(0.001)
    assert study.advance(unwritten=1) == Draining(end)
    assert (study.end, study.ended) == (end, "converged: 0.10% expected of the next trial")
    assert attributes_of(study.optuna_study).end is None
    assert study.advance() == Searching()  # last tries, and the end is taken back
    assert study.end is None


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
    plan = StudyPlan(Job(PROBLEM, ()), key, space, (1.0,) * len(space), ())
    storage = open_storage(database, create=True)
    [study], _ = open_studies(
        storage, [plan], settings(**{"sampler": "surrogate", "trials": 60, **changes})
    )
    assert study.usual_end == usual


def _proposed(study: TuningStudy) -> Config:
    sampler = study.optuna_study.sampler
    assert isinstance(sampler, SurrogateSampler)
    return Config.from_keys(sampler.propose(study.optuna_study, 1)[0])
