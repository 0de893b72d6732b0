"""Two workers on one study whose sampler ends it: nobody leaves before the last tries are done."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from autotune.spec.config import Config
from autotune.spec.device import Device, DeviceKind, Target
from autotune.spec.measurement import Measurement
from autotune.spec.problem import Problem
from autotune.studies.coordination.claims import claim
from autotune.studies.coordination.leases import Census, Lease
from autotune.studies.key import StudyKey
from autotune.studies.outcome import Outcome, TrialResult
from autotune.studies.search.samplers import SAMPLERS
from autotune.studies.space import Space
from autotune.studies.storage.open import open_storage
from autotune.studies.storage.transactions import Asked
from autotune.studies.study_record import open_study
from autotune.studies.trial_io import tell
from autotune.tune.jobs import Job
from autotune.tune.tuning_study import CONVERGED, TuningStudy
from autotune.tune.workers.scheduler import StudyScheduler

H200 = Device(DeviceKind.CUDA, "NVIDIA H200", Target("cuda", 90), 232448, "3.6.0")
PROBLEM = Problem(8, 2, 512, 256, 64)
GROUPS = (1, 8, 16, 32)
SPACE = Space(Config(m, 64, 64, g, 4, 3) for m in (16, 32, 64) for g in GROUPS)
ENDS_AT = 6


class EndingUnit(TuningStudy):
    """Its sampler has enough after six measurements. ``meanwhile`` happens between its end and its
    last tries."""

    __slots__ = ("meanwhile",)
    meanwhile: Callable[[], object]

    def converged(self) -> str:
        is_enough = len(self.entries) >= ENDS_AT and not self._is_queued
        return f"{CONVERGED}: 0.1 % expected of the next trial" if is_enough else ""

    def add_last_tries(self) -> bool:
        self.meanwhile()
        return super().add_last_tries()


class Peer:
    """One worker's view, step by step."""

    def __init__(self, database: str, name: str) -> None:
        storage = open_storage(database, create=True)
        key = StudyKey(PROBLEM, H200, SPACE.fingerprint)
        study = open_study(storage, key, SAMPLERS["random"](SPACE, 3), {"model": "m"})
        ended = str(study.user_attrs.get("finished", ""))
        self.study = EndingUnit(Job(PROBLEM, ()), key, SPACE, study, {}, 20, [], ended=ended)
        self.study.meanwhile = lambda: None
        self.lease = Lease(storage, name)
        self.lease.__enter__()
        self.is_over = False
        self.scheduler = StudyScheduler(
            [self.study],
            lease=self.lease,
            census=Census(storage),
            start_at=0,
            on_over=self._on_over,
        )

    def _on_over(self, _: int) -> None:
        self.is_over = True

    def ask(self) -> list[Asked]:
        position = self.scheduler.find()
        if position is None:
            return []
        view, worker = self.scheduler.view(position), self.lease.worker
        asked = claim(self.study.optuna_study, SPACE, view, worker, count=1, goal=self.study.goal)
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
            self.scheduler.ended(each.trial_id)

    def work(self, count: int = ENDS_AT) -> None:
        """So many trials, one after the other."""
        for _ in range(count):
            self.tell(self.ask())

    @property
    def finished(self) -> str:
        return str(self.study.optuna_study.user_attrs.get("finished", ""))

    def is_swept(self) -> bool:
        """Every group of the best tile was measured."""
        tried = {entry.config for entry in self.study.entries}
        best = min(self.study.entries, key=lambda entry: entry.geomean_us).config
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
    one.study.meanwhile = other.scheduler.find
    assert one.scheduler.find() == 0  # it finds nothing to queue
    _until_over(one, other)
    assert one.is_swept()
    assert one.finished.startswith(CONVERGED)


def test_last_tries_that_nobody_measured_are_found_by_the_next_run(
    peer: Callable[[str], Peer],
) -> None:
    first = peer("first")
    first.work()
    assert first.scheduler.find() == 0
    assert first.finished == ""
    first.study.optuna_study.set_user_attr("finished", f"{CONVERGED}: as an earlier version wrote")
    second = peer("second")
    assert second.study.has_converged
    _until_over(second)
    assert second.is_swept()


def test_an_end_of_an_earlier_version_is_taken_back_before_anything_is_queued(
    peer: Callable[[str], Peer],
) -> None:
    first = peer("first")
    first.work()
    first.study.optuna_study.set_user_attr("finished", f"{CONVERGED}: without last tries")
    second = peer("second")
    assert second.scheduler.find() == 0
    assert second.finished == ""
