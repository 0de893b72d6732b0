"""The order of visits; and two workers on one study whose sampler ends it: nobody leaves before
the last tries are done."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from optuna.samplers import RandomSampler
from optuna.study import Study
from trials import tell  # type: ignore[import-not-found]

from autotune.settings import ModelSettings
from autotune.spec.config import Config
from autotune.spec.device import Device, DeviceKind, Target
from autotune.spec.measurement import Measurement
from autotune.spec.problem import Problem
from autotune.studies.coordination.claims import claim
from autotune.studies.coordination.leases import Census, Lease
from autotune.studies.key import StudyKey
from autotune.studies.lifecycle import EndReason, StudyEnd
from autotune.studies.outcome import Outcome, TrialResult
from autotune.studies.space import Space
from autotune.studies.storage.open import open_storage
from autotune.studies.storage.protocol import Asked
from autotune.studies.study_attributes import SearchTerms, attributes_of
from autotune.studies.study_record import open_study
from autotune.studies.trial_io import enqueue
from autotune.studies.trial_record import measured, taken_configs
from autotune.tuning.jobs import Job
from autotune.tuning.tuning_study import StudyPlan, TuningStudy
from autotune.tuning.workers.scheduler import (
    VISIT,
    Standing,
    StudyScheduler,
    Visit,
    first_position,
    visiting_order,
)

H200 = Device(DeviceKind.CUDA, "NVIDIA H200", Target("cuda", 90), 232448, "3.6.0")
PROBLEM = Problem(8, 2, 512, 256, 64)
GROUPS = (1, 8, 16, 32)
SPACE = Space(Config(m, 64, 64, g, 4, 3) for m in (16, 32, 64) for g in GROUPS)
ENDS_AT = 6


class EnoughSampler(RandomSampler):
    """A sampler that has enough after six measurements. ``meanwhile`` happens while it says so:
    after its study was read, and before last tries are queued."""

    def __init__(self) -> None:
        super().__init__(seed=3)
        self.meanwhile: Callable[[], object] = lambda: None

    def propose(self, study: Study, count: int) -> list[dict[str, Any]]:
        taken = taken_configs(study.get_trials(deepcopy=False))
        free = [config for config in SPACE.configs if config not in taken]
        free.sort(key=lambda config: config.group_size_m)
        return [config.as_keys() for config in free[:count]]

    def likely(self, study: Study, count: int) -> list[dict[str, Any]]:
        return []

    def expected_gain(self, study: Study) -> float:
        if len(measured(study.get_trials(deepcopy=False))) < ENDS_AT:
            return math.inf
        self.meanwhile()
        return 0.001


class Peer:
    """One worker's view, step by step."""

    def __init__(self, database: str, name: str) -> None:
        storage = open_storage(database, create=True)
        key = StudyKey(PROBLEM, H200, SPACE.fingerprint)
        self.sampler = EnoughSampler()
        study = open_study(storage, key, self.sampler, {"model": "m"})
        plan = StudyPlan(Job(PROBLEM, ()), key, SPACE, None, ())
        terms = SearchTerms("enough", 20, stop_gain=0.01)
        self.study = TuningStudy(plan, study, terms, end=attributes_of(study).end)
        self.lease = Lease(storage, name)
        self.lease.__enter__()
        self.is_over = False
        self.scheduler = StudyScheduler(
            [self.study],
            lease=self.lease,
            census=Census(storage),
            start_at=0,
            on_finished=self._on_finished,
        )

    def _on_finished(self, _: int) -> None:
        self.is_over = True

    def ask(self) -> list[Asked]:
        position = self.scheduler.find()
        if position is None:
            return []
        study, worker = self.study, self.lease.worker
        asked = claim(study.optuna_study, SPACE, study.view, worker, count=1, goal=study.goal)
        for each in asked:
            self.scheduler.begun(position, each.trial_id)
        return asked

    def tell(self, asked: list[Asked]) -> None:
        """The larger the tile the faster, and the later the group."""
        for each in asked:
            assert isinstance(each.config, Config)
            us = 100.0 - each.config.block_size_m - each.config.group_size_m / 10
            result = TrialResult(Outcome.OK, Measurement((us,), "made up"))
            tell(self.study.optuna_study, each, result, None)
            self.scheduler.written(each.trial_id)

    def work(self, count: int = ENDS_AT) -> None:
        """So many trials, one after the other."""
        for _ in range(count):
            self.tell(self.ask())

    @property
    def finished(self) -> str:
        return str(self.study.optuna_study.user_attrs.get("finished", ""))

    def is_swept(self) -> bool:
        """Every group of the best tile was measured."""
        tried = {entry.config for entry in self.study.measured}
        best = min(self.study.measured, key=lambda entry: entry.geomean_us).config
        assert isinstance(best, Config)
        return {Config(best.block_size_m, 64, 64, g, 4, 3) for g in GROUPS} <= tried


@pytest.fixture
def peer(database: str) -> Iterator[Callable[[str], Peer]]:
    made: list[Peer] = []

    def make(name: str) -> Peer:
        made.append(Peer(database, name))
        return made[-1]

    yield make
    for each in made:
        each.lease.__exit__(None, None, None)


def _until_over(*peers: Peer) -> None:
    for _ in range(40):
        for each in peers:
            each.work(1)
        if all(each.is_over for each in peers):
            return
    pytest.fail("it never ends")


def test_one_asks_for_the_last_tries_at_once(peer: Callable[[str], Peer]) -> None:
    one = peer("one")
    one.work()
    assert one.ask()  # not after a pause
    assert not one.is_over
    assert one.finished == ""


def test_who_saw_it_end_goes_on_with_the_others_last_tries(peer: Callable[[str], Peer]) -> None:
    one, other = peer("one"), peer("other")
    one.work(ENDS_AT - 1)
    late, last = one.ask(), other.ask()
    other.tell(last)
    assert other.ask() == []  # it has converged, and one has a trial in work
    one.tell(late)
    assert one.ask()  # the first of the last tries is in work
    assert other.ask()


def test_two_that_end_it_at_the_same_moment_do_not_leave(peer: Callable[[str], Peer]) -> None:
    one, other = peer("one"), peer("other")
    one.work()
    one.sampler.meanwhile = other.scheduler.find
    assert one.scheduler.find() == 0  # it finds nothing to queue
    _until_over(one, other)
    assert one.is_swept()
    assert one.study.end == StudyEnd.converged(0.001)
    assert one.finished == one.study.ended


def test_last_tries_that_nobody_measured_are_found_by_the_next_run(
    peer: Callable[[str], Peer],
) -> None:
    first = peer("first")
    first.work()
    assert first.scheduler.find() == 0
    assert first.finished == ""
    first.study.optuna_study.set_user_attr("finished", "converged: as an earlier version wrote")
    second = peer("second")
    assert second.study.end is not None
    assert second.study.end.reason is EndReason.CONVERGED
    _until_over(second)
    assert second.is_swept()


def test_an_end_of_an_earlier_version_is_taken_back_before_anything_is_queued(
    peer: Callable[[str], Peer],
) -> None:
    first = peer("first")
    first.work()
    first.study.optuna_study.set_user_attr("finished", "converged: without last tries")
    second = peer("second")
    assert second.scheduler.find() == 0
    assert second.finished == ""


FRESH = Standing(workers=0, is_queued=True, is_near=True, is_known=False, started=0)
SEARCHED = Standing(workers=0, is_queued=False, is_near=True, is_known=True, started=12)


def test_what_is_queued_anywhere_comes_before_any_search() -> None:
    assert visiting_order([SEARCHED, FRESH, SEARCHED, FRESH], last=1) == [3, 1, 2, 0]


def test_all_are_searched_round_robin() -> None:
    behind = replace(SEARCHED, started=6)
    assert visiting_order([SEARCHED, behind, SEARCHED], last=0) == [1, 2, 0]


def test_where_the_fewest_others_work_comes_first_among_equals() -> None:
    busy = replace(SEARCHED, workers=1, started=0)
    assert visiting_order([busy, SEARCHED], last=1) == [1, 0]
    strange, strange_and_busy = (replace(s, is_known=False) for s in (SEARCHED, busy))
    assert visiting_order([strange_and_busy, strange], last=1) == [1, 0]
    assert visiting_order([strange, busy], last=1) == [1, 0]  # a worker keeps to what it knows


def test_what_the_device_holds_comes_before_what_is_behind() -> None:
    elsewhere = replace(SEARCHED, is_known=False, started=0)
    others = replace(SEARCHED, is_near=False, started=0)
    assert visiting_order([others, elsewhere, SEARCHED], last=2) == [2, 1, 0]


def test_the_first_visits_of_several_workers_are_different_studies() -> None:
    assert [visiting_order([FRESH] * 4, last=worker - 1)[0] for worker in range(4)] == [0, 1, 2, 3]


def test_a_visit_ends_with_the_queue_that_it_came_for_or_after_some_trials() -> None:
    assert Visit(0, came_for_queue=True).started == 0
    assert not Visit(0, came_for_queue=True, started=VISIT + 1).is_over(is_queued=True)
    assert Visit(0, came_for_queue=True, started=1).is_over(is_queued=False)
    assert not Visit(0, came_for_queue=False, started=VISIT - 1).is_over(is_queued=True)
    assert Visit(0, came_for_queue=False, started=VISIT).is_over(is_queued=True)


def test_workers_begin_with_different_models() -> None:
    key = StudyKey(PROBLEM, H200, SPACE.fingerprint)
    models = [ModelSettings(model="A"), ModelSettings(model="B")]
    plans = [StudyPlan(Job(PROBLEM, ()), key, SPACE, None, (), m) for m in models for _ in "abc"]
    assert [first_position(plans, number) for number in range(8)] == [0, 3, 1, 4, 2, 5, 0, 3]
    alone = [replace(plan, model=None) for plan in plans]
    assert [first_position(alone, number) for number in range(7)] == [0, 1, 2, 3, 4, 5, 0]
    assert first_position([], 2) == 2


@pytest.mark.parametrize("is_measured", [False, True])
def test_other_weights_are_made_for_a_queue_only_where_a_study_has_nothing_to_show(
    database: str, is_measured: bool
) -> None:
    storage = open_storage(database, create=True)
    studies = []
    for hidden in (512, 1024):
        problem = replace(PROBLEM, hidden=hidden)
        key = StudyKey(problem, H200, SPACE.fingerprint)
        study = open_study(storage, key, RandomSampler(seed=1), {"model": "m"})
        plan = StudyPlan(Job(problem, ()), key, SPACE, None, ())
        studies.append(TuningStudy(plan, study, SearchTerms("random", 10, stop_gain=0.0)))
    mine, other = studies
    enqueue(mine.optuna_study, SPACE, [(SPACE.configs[0], "first")])
    with Lease(storage, "cuda:0") as lease:
        options = {"lease": lease, "census": Census(storage), "on_finished": lambda _: None}
        scheduler = StudyScheduler(studies, start_at=0, **options)
        assert scheduler.find() == 0
        [asked] = claim(mine.optuna_study, SPACE, mine.view, lease.worker, count=1, goal=10)
        scheduler.begun(0, asked.trial_id)
        tell(mine.optuna_study, asked, _ok(), None)
        scheduler.written(asked.trial_id)
        if is_measured:
            other.view.read()
            [theirs] = claim(other.optuna_study, SPACE, other.view, "gone", count=1, goal=10)
            tell(other.optuna_study, theirs, _ok(), None)
        enqueue(other.optuna_study, SPACE, [(SPACE.configs[1], "first")])
        assert scheduler.find() == (0 if is_measured else 1)


def _ok() -> TrialResult:
    return TrialResult(Outcome.OK, Measurement((10.0,), "made up"))
