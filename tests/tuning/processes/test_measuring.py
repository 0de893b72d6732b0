"""Measuring in a child: what it answers, and what becomes of the rest where one config is fatal."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from fakes import ABORT, FINE, HANG, NoisyMeasurer  # type: ignore[import-not-found]

from autotune.backends.protocol import Measurer
from autotune.spec.config import Config
from autotune.spec.problem import Problem
from autotune.studies.outcome import Outcome, TrialResult
from autotune.tuning.processes.child import Child
from autotune.tuning.processes.dispatch import measure_interleaved_in

PROBLEM = Problem(8, 2, 512, 256, 1)


class Sleepy(NoisyMeasurer):  # type: ignore[misc]
    """Hangs for one config, and is slow with all of them together."""

    def measure(self, problem: Problem, config: Config, **options: object) -> TrialResult:
        if config.num_stages == HANG:
            time.sleep(3600)
        return super().measure(problem, config)


@pytest.fixture
def child() -> Iterator[Child]:
    opened = Child(Sleepy)
    yield opened
    opened.close()


def _config(group: int, stages: int = FINE) -> Config:
    return Config(16, 32, 64, group, 4, stages)


def test_all_are_asked_for_at_once(child: Child) -> None:
    configs = [_config(group) for group in (8, 1, 4)]
    results = measure_interleaved_in(child, 30, PROBLEM, configs)
    times = [result.measurement.geomean_us for result in results if result.measurement]
    assert [round(us / 105) for us in times] == [1, 1, 1]
    assert times[1] < times[2] < times[0]


def test_who_ends_the_child_bears_it_alone(child: Child) -> None:
    configs = [_config(1), _config(2, ABORT), _config(3)]
    results = measure_interleaved_in(child, 30, PROBLEM, configs)
    assert [r.outcome for r in results] == [Outcome.OK, Outcome.CRASHED, Outcome.OK]
    assert "SIGABRT" in results[1].reason


def test_a_hang_ends_after_the_time_of_one(child: Child) -> None:
    child.call(Measurer.device)  # it is open: only measuring takes time
    [result] = measure_interleaved_in(child, 0.5, PROBLEM, [_config(1, HANG)])
    assert result.outcome is Outcome.RUN_TIMEOUT
    assert "0.5 s" in result.reason


def test_an_interruption_is_heard_between_two(child: Child) -> None:
    heard = iter([False, True, True])
    configs = [_config(1, ABORT), _config(2), _config(3)]
    results = measure_interleaved_in(child, 30, PROBLEM, configs, is_over=lambda: next(heard))
    assert [r.outcome for r in results] == [Outcome.CRASHED] * 3
    assert [r.reason for r in results[1:]] == ["interrupted"] * 2
