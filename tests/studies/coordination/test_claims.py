from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import claiming  # type: ignore[import-not-found]
import optuna
import pytest
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage, RDBStorage
from optuna.study import Study
from optuna.trial import TrialState
from storages import KINDS, fresh_storage  # type: ignore[import-not-found]

from autotune.spec.config import Config, config_from_keys
from autotune.studies.coordination.claims import claim, sweep
from autotune.studies.coordination.leases import Census, Lease
from autotune.studies.coordination.study_view import StudyView
from autotune.studies.search.samplers import SAMPLERS
from autotune.studies.storage.open import close_storage, open_storage
from autotune.studies.storage.protocol import Asked, TrialEnd
from autotune.studies.storage.transactions import transactions_of
from autotune.studies.trial_io import enqueue
from autotune.studies.trial_record import config_of, distributions, measured, outcome_counts

SPACE = claiming.space_of(6)
ME, YOU = "me", "you"
OK = {"outcome": "ok", "samples_us": [1.0]}


@pytest.fixture(params=KINDS)
def address(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with fresh_storage(request.param, tmp_path, request) as text:
        yield text


@pytest.fixture
def storage(address: str) -> Iterator[BaseStorage]:
    opened = open_storage(address, create=True)
    yield opened
    close_storage(opened)


def _study(storage: BaseStorage, sampler: BaseSampler | None = None) -> Study:
    sampler = sampler or SAMPLERS["grid"](SPACE, 0)
    return optuna.create_study(
        storage=storage, study_name="study", sampler=sampler, load_if_exists=True
    )


def _claim(study: Study, *, count: int = 1, goal: int = 6, worker: str = ME) -> list[Config]:
    view = StudyView(study)
    view.read()
    return [a.config for a in claim(study, SPACE, view, worker, count=count, goal=goal)]


def _begin(study: Study, params: dict[str, Any]) -> Asked:
    [asked] = transactions_of(study).begin(
        study, distributions(SPACE), [params], YOU, lambda _: [True]
    )
    return asked


def _finish(study: Study, asked: Asked, *end: Any) -> None:
    transactions_of(study).finish([TrialEnd(asked.trial_id, *end)])


class Outrun(type(SAMPLERS["grid"](SPACE, 0))):  # type: ignore[misc]
    """The grid's sampler; after it has proposed, and before that is created, others act."""

    def __init__(self, act: Callable[[dict[str, Any]], None]) -> None:
        super().__init__(SPACE, 0)
        self._act = act

    def propose(self, study: Study, count: int) -> list[dict[str, Any]]:
        free = [
            config for config, new in zip(SPACE.configs, self._unseen(study), strict=True) if new
        ]
        params = [dict(config.as_keys()) for config in free[:count]]
        self._act(params[0])
        return params

    def likely(self, study: Study, count: int) -> list[dict[str, Any]]:
        return []

    def expected_gain(self, study: Study) -> float:
        return math.inf


def test_what_was_asked_is_taken_before_the_study_is_read_again(storage: BaseStorage) -> None:
    study = _study(storage)
    view = StudyView(study)
    view.read()
    asked = claim(study, SPACE, view, ME, count=2, goal=6)
    assert set(view.taken) == {each.config for each in asked}
    assert [view.holder(each.config) for each in asked] == [each.number for each in asked]


def test_a_config_that_another_began_first_is_theirs(storage: BaseStorage) -> None:
    other = _study(storage)
    study = _study(storage, Outrun(lambda p: _begin(other, p) and None))
    assert _claim(study, count=3) == list(SPACE.configs[1:3])
    states = [trial.state for trial in study.get_trials()]
    given_up = [] if isinstance(storage, RDBStorage) else [TrialState.FAIL]
    assert states == [TrialState.RUNNING, *given_up, TrialState.RUNNING, TrialState.RUNNING]


def test_one_that_another_has_just_measured_is_theirs(storage: BaseStorage) -> None:
    other, outrun = _study(storage), list(SPACE.configs[:1])

    def measure(params: dict[str, Any]) -> None:
        if config_from_keys(params) in outrun:
            _finish(other, _begin(other, params), TrialState.COMPLETE, 1.0, OK)

    study = _study(storage, Outrun(measure))
    assert _claim(study) == [SPACE.configs[1]]  # chosen at once instead


def test_one_that_another_has_given_up_stands(storage: BaseStorage) -> None:
    other = _study(storage)

    def try_it(params: dict[str, Any]) -> None:
        _finish(other, _begin(other, params), TrialState.FAIL)

    assert _claim(_study(storage, Outrun(try_it))) == [SPACE.configs[0]]


def test_the_goal_is_never_passed(storage: BaseStorage) -> None:
    other = _study(storage)
    five = SPACE.configs[5].as_keys()
    study = _study(storage, Outrun(lambda _: _begin(other, five) and None))
    assert _claim(study, count=3, goal=3) == list(SPACE.configs[:2])


def test_what_was_queued_meanwhile_keeps_its_place(storage: BaseStorage) -> None:
    other = _study(storage)
    queue = Outrun(lambda _: enqueue(other, SPACE, [(SPACE.configs[5], "a")]) and None)
    study = _study(storage, queue)
    assert _claim(study, count=3, goal=3) == list(SPACE.configs[:2])
    assert _claim(study, count=3, goal=3) == [SPACE.configs[5]]


def test_queued_ones_come_first_and_once(storage: BaseStorage) -> None:
    study = _study(storage)
    enqueue(study, SPACE, [(SPACE.configs[4], "a"), (SPACE.configs[2], "b")])
    study.enqueue_trial(SPACE.configs[2].as_keys())  # two runs queued it at the same moment
    assert _claim(study, count=3) == [SPACE.configs[4], SPACE.configs[2]]
    assert _claim(study) == [SPACE.configs[0]]
    assert [t.user_attrs.get("source") for t in study.get_trials()[:2]] == ["a", "b"]


def test_what_the_dead_left_is_queued_once_and_the_livings_is_theirs(
    storage: BaseStorage, tmp_path: Path
) -> None:
    study = _study(storage)
    with Lease(storage, "x") as alive:
        _claim(study, worker=alive.worker)
        _claim(study, worker="dead")
        for _ in range(2):
            view = StudyView(study)
            view.read()
            sweep(study, view, Census(storage))
    states = [trial.state for trial in study.get_trials()]
    assert states == [TrialState.RUNNING, TrialState.FAIL, TrialState.WAITING]
    assert _claim(study) == [SPACE.configs[1]]
    assert study.get_trials()[2].user_attrs["source"] == "interrupted"


def test_what_the_dead_had_told_by_half_is_measured_again(storage: BaseStorage) -> None:
    study = _study(storage)
    [config] = _claim(study, worker="dead")
    for name, value in OK.items():  # a journal has these before the state that belongs to them
        storage.set_trial_user_attr(study.trials[0]._trial_id, name, value)
    view = StudyView(study)
    view.read()
    assert sweep(study, view, Census(storage)) == 1
    assert _claim(study) == [config]
    view.read()
    assert (view.failures, outcome_counts(study.trials)["interrupted"]) == ([], 1)


def test_a_trial_of_ours_that_we_do_not_know_is_lost(storage: BaseStorage) -> None:
    """The commit came through, and the reply did not."""
    study = _study(storage)
    with Lease(storage, "x") as lease:
        _claim(study, worker=lease.worker, count=1)
        _claim(study, worker=lease.worker, count=1)
        view = StudyView(study)
        view.read()
        known = {study.get_trials()[0]._trial_id}
        assert sweep(study, view, Census(storage), mine=lease.names, in_hand=known) == 1
    states = [trial.state for trial in study.get_trials()]
    assert states == [TrialState.RUNNING, TrialState.FAIL, TrialState.WAITING]


def test_a_trial_without_a_worker_is_lost_in_a_database(database: str) -> None:
    study = _study(open_storage(database, create=True))
    study.ask(distributions(SPACE))
    study.ask()  # killed before its parameters were written
    view = StudyView(study)
    view.read()
    assert sweep(study, view, Census(study._storage)) == 2
    states = [trial.state for trial in study.get_trials()]
    assert states == [TrialState.FAIL, TrialState.FAIL, TrialState.WAITING]


def test_elsewhere_a_trial_may_be_unsigned_for_a_moment(tmp_path: Path) -> None:
    study = _study(open_storage(f"journal:{tmp_path / 'a.journal'}", create=True))
    study.ask(distributions(SPACE))
    now = [0.0]
    census, found = Census(study._storage, clock=lambda: now[0]), []
    for now[0] in (0.0, 59.0, 61.0):
        view = StudyView(study)
        view.read()
        found.append(sweep(study, view, census))
    assert found == [0, 0, 1]


def test_many_at_once_measure_nothing_twice_and_no_more_than_wanted(
    address: str, storage: BaseStorage
) -> None:
    size, goal = 24, 20
    study = optuna.create_study(storage=storage, study_name="study")
    for config in (*claiming.space_of(size).configs[:4], claiming.space_of(size).configs[0]):
        study.enqueue_trial(config.as_keys())
    command = [sys.executable, claiming.__file__, address]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    workers = [
        subprocess.Popen([*command, f"w{i}", str(goal), str(size)], env=environment)
        for i in range(3)
    ]
    assert [worker.wait(120) for worker in workers] == [0, 0, 0]
    trials = study.get_trials()
    configs = [entry.config for entry in measured(trials)]
    assert len(configs) == goal
    assert len(set(configs)) == goal
    assert [t for t in trials if t.state == TrialState.RUNNING] == []
    assert all(config_of(trial) in claiming.space_of(size) for trial in trials if trial.params)
