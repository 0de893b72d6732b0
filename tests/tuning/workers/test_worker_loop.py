from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from fakes import (  # type: ignore[import-not-found]
    ABORT,
    FINE,
    HANG,
    RAISE,
    FaultyMeasurer,
    GreedyMeasurer,
    NoisyMeasurer,
    UnluckyMeasurer,
)

from autotune.backends.protocol import Measurer
from autotune.spec.config import Config
from autotune.spec.problem import Problem
from autotune.studies.coordination.leases import Census, Lease
from autotune.studies.key import StudyKey
from autotune.studies.outcome import TrialResult
from autotune.studies.search.pruning import Stop
from autotune.studies.search.samplers import SAMPLERS
from autotune.studies.selection.select import Robust
from autotune.studies.space import Space
from autotune.studies.storage.open import open_storage
from autotune.studies.study_attributes import SearchTerms, attributes_of
from autotune.studies.study_record import open_study
from autotune.studies.trial_io import enqueue
from autotune.studies.trial_record import outcome_counts
from autotune.tuning.jobs import Job
from autotune.tuning.processes.child import Child
from autotune.tuning.tuning_study import StudyPlan, TuningStudy
from autotune.tuning.workers.protocol import (
    FinalsMeasured,
    StudyFinished,
    TrialFinished,
    TrialStarted,
)
from autotune.tuning.workers.worker_loop import Worker

PROBLEM = Problem(8, 2, 512, 256, 1)
Make = Callable[..., Worker]


class Recorder:
    """A parent that hears everything, and may ask to leave when a config of so many stages
    is started."""

    def __init__(self, leave_at: int | None = None) -> None:
        self.heard: list[Any] = []
        self.asked: list[int] = []
        self._leave_at = leave_at
        self._at: float | None = None

    def send(self, message: object) -> None:
        self.heard.append(message)
        if isinstance(message, TrialStarted) and message.config.num_stages == self._leave_at:
            self._at = self._at or time.monotonic()

    def finals(self) -> list[int]:
        """Ask for the finals of each study that has finished, once."""
        ended = [m.position for m in self.heard if isinstance(m, StudyFinished)]
        new = [position for position in ended if position not in self.asked]
        self.asked += new
        return new

    @property
    def requested(self) -> bool:
        return self._at is not None

    @property
    def since_s(self) -> float:
        return 0.0 if self._at is None else time.monotonic() - self._at


class DiesInFinals(NoisyMeasurer):  # type: ignore[misc]
    def measure_interleaved(self, *_: Any) -> Any:
        os.abort()


@pytest.fixture
def make(database: str) -> Iterator[Make]:
    """A worker over studies, whose child has this measurer."""
    held: list[Any] = []

    def worker(
        studies: list[TuningStudy], measurer: Any, parent: Recorder, **limits: Any
    ) -> Worker:
        storage = open_storage(database, create=True)
        child, lease = Child(measurer), Lease(storage, "cuda:0")
        held.extend((child, lease.__enter__()))
        child.call(Measurer.device)
        limits = {"run_timeout_s": 60.0, **limits}
        return Worker(
            studies,
            child,
            lease=lease,
            census=Census(storage),
            parent=parent,
            **limits,
        )

    yield worker
    for each in held:
        each.close() if isinstance(each, Child) else each.__exit__(None, None, None)


def _space(*stages: int, count: int = 1) -> Space:
    return Space(Config(16, 32, 64, g, 4, s) for s in stages for g in range(1, count + 1))


def _tuning_study(
    database: str, space: Space, target: int, tokens: int = 1, hidden: int = 512
) -> TuningStudy:
    problem = Problem(8, 2, hidden, 256, tokens)
    key = StudyKey(problem, FaultyMeasurer.device, space.fingerprint)
    sampler = SAMPLERS["grid"](space, 0)
    study = open_study(open_storage(database, create=True), key, sampler, {"model": "m"})
    plan = StudyPlan(Job(problem, ()), key, space, None, ())
    return TuningStudy(plan, study, SearchTerms("grid", target, 0.0))


def test_bad_configs_cost_one_trial_each(make: Make, database: str) -> None:
    space = Space([*_space(FINE, count=3).configs, *_space(ABORT, HANG, RAISE).configs])
    study, parent = _tuning_study(database, space, target=100), Recorder()
    make([study], FaultyMeasurer, parent, run_timeout_s=2.0).run()
    assert outcome_counts(study.optuna_study.trials) == {"ok": 3, "crashed": 2, "run timeout": 1}
    assert study.ended == "every config of the space was tried"
    reasons = {t.user_attrs.get("reason") for t in study.optuna_study.trials}
    assert {"the process died (signal SIGABRT)", "no answer in 2 s"} < reasons
    deaths = [t.user_attrs.get("deaths") for t in study.optuna_study.trials]
    assert sorted(filter(None, deaths)) == [2, 2, 2]  # tried twice, and by nobody again
    assert parent.heard[-1] == StudyFinished(0, study.end)


def test_a_config_that_was_unlucky_once_is_measured(
    make: Make, database: str, tmp_path: Path
) -> None:
    space = _space(FINE, ABORT, HANG)
    study = _tuning_study(database, space, target=3)
    measurer = partial(UnluckyMeasurer, tmp_path)
    make([study], measurer, Recorder(), run_timeout_s=2.0).run()
    assert outcome_counts(study.optuna_study.trials) == {"ok": 3}
    assert [t.user_attrs.get("deaths") for t in study.optuna_study.trials] == [None, 1, 1]


def test_nothing_but_failures_ends_a_study(
    make: Make, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("autotune.studies.lifecycle.FAILURES_IN_A_ROW", 3)
    study = _tuning_study(database, _space(RAISE, count=20), target=20)
    make([study], FaultyMeasurer, Recorder()).run()
    assert (
        3 <= outcome_counts(study.optuna_study.trials)["crashed"] <= 5
    )  # two more may be in in_flight
    assert "failures in a row; the last: RuntimeError: CUDA error" in study.ended
    assert study.optuna_study.user_attrs["finished"] == study.ended


def test_time_counts_from_the_first_measurement(make: Make, database: str) -> None:
    study = _tuning_study(database, _space(FINE, count=50), target=50)
    make([study], FaultyMeasurer, Recorder(), seconds=0.0).run()
    assert study.optuna_study.trials == []
    make([study], FaultyMeasurer, Recorder(), seconds=1e-6).run()
    assert 1 <= len(study.view.measured) < 50


def test_what_is_in_the_queue_when_it_leaves_is_given_up(make: Make, database: str) -> None:
    hangs = [Config(16, 32, 64, group, 4, HANG) for group in range(3, 7)]
    space = Space([*_space(FINE, count=2).configs, *hangs])
    study, parent = _tuning_study(database, space, target=6), Recorder(leave_at=HANG)
    began = time.monotonic()
    make([study], FaultyMeasurer, parent).run()
    assert time.monotonic() - began < 15
    counts = outcome_counts(study.optuna_study.trials)
    assert counts.pop("ok") == 2
    assert set(counts) == {"interrupted"}


def test_a_child_that_grows_is_replaced_between_trials(make: Make, database: str) -> None:
    study, parent = _tuning_study(database, _space(FINE, count=8), target=8), Recorder()
    make([study], GreedyMeasurer, parent, growth_bytes=100 << 20).run()
    pids = [entry.geomean_us for entry in study.measured]
    assert len(pids) == 8
    assert 2 <= len(set(pids)) <= 4
    assert {t.user_attrs.get("deaths") for t in study.optuna_study.trials} == {None}


def test_units_in_order_and_each_told_before_it_is_over(make: Make, database: str) -> None:
    studies = [_tuning_study(database, _space(FINE, count=4), target=3, tokens=n) for n in (1, 2)]
    parent = Recorder()
    spent = make(studies, FaultyMeasurer, parent).run()
    assert [len(study.measured) for study in studies] == [3, 3]
    order = [m.position for m in parent.heard if isinstance(m, TrialFinished | StudyFinished)]
    assert order.index(0) < order.index(1)
    for position in (0, 1):
        mine = [
            m
            for m in parent.heard
            if isinstance(m, TrialFinished | StudyFinished) and m.position == position
        ]
        assert [type(m) for m in mine] == [
            TrialFinished,
            TrialFinished,
            TrialFinished,
            StudyFinished,
        ]
    assert sum(isinstance(message, TrialStarted) for message in parent.heard) == 6
    assert spent.device_time.first_s < spent.device_time.last_s


def test_queued_trials_of_all_units_come_first_and_then_turns(make: Make, database: str) -> None:
    studies = [
        _tuning_study(database, _space(FINE, count=16), target=14, tokens=n) for n in (1, 2, 4)
    ]
    for study in studies:
        enqueue(study.optuna_study, study.space, [(c, "default") for c in study.space.configs[-2:]])
    parent = Recorder()
    make(studies, FaultyMeasurer, parent).run()
    told = [message.position for message in parent.heard if isinstance(message, TrialFinished)]
    assert sorted(told[:6]) == [0, 0, 1, 1, 2, 2]
    first, second = told[6:24], told[24:]
    assert {p: first.count(p) for p in range(3)} == {0: 6, 1: 6, 2: 6}
    assert {p: second.count(p) for p in range(3)} == {0: 6, 1: 6, 2: 6}
    assert [study.ended for study in studies] == ["", "", ""]


class Doomed(FaultyMeasurer):
    """Its process is killed as if for want of memory, by some configs."""

    def measure(self, problem: Problem, config: Config, *, stop: Stop | None = None) -> TrialResult:
        if config.num_stages != FINE:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().measure(problem, config, stop=stop)


def test_a_config_whose_children_are_killed_is_tried_four_times(make: Make, database: str) -> None:
    study = _tuning_study(database, _space(FINE, ABORT), target=3)
    make([study], Doomed, Recorder()).run()
    assert outcome_counts(study.optuna_study.trials) == {"ok": 1, "crashed": 1}


def test_a_finished_studys_finals_are_measured_while_others_are_searched(
    make: Make, database: str
) -> None:
    space = _space(FINE, count=9)
    short, long = (_tuning_study(database, space, target=t, tokens=t) for t in (4, 9))
    parent = Recorder()
    make([short, long], NoisyMeasurer, parent).run()
    [measured] = [m for m in parent.heard if isinstance(m, FinalsMeasured)]
    assert measured.position == 0
    assert len(measured.finalists) == 1  # the others have lost
    ends = [n for n, m in enumerate(parent.heard) if isinstance(m, StudyFinished)]
    assert ends[0] < parent.heard.index(measured) < ends[1]
    stored = attributes_of(short.optuna_study).finalists(4, Robust.MEAN)
    assert [one.config for one in stored] == [one.config for one in measured.finalists]


def test_finals_that_end_the_device_wait_for_the_end_of_the_search(
    make: Make, database: str
) -> None:
    space = _space(FINE, count=9)
    short, long = (_tuning_study(database, space, target=t, tokens=t) for t in (4, 9))
    parent = Recorder()
    make([short, long], DiesInFinals, parent).run()
    assert not any(isinstance(m, FinalsMeasured) for m in parent.heard)
    assert [len(study.measured) for study in (short, long)] == [4, 9]
