from __future__ import annotations

from dataclasses import replace

import pytest

from autotune.backends.binaries import Binaries, GemmBinary, gemm_binaries
from autotune.spec.config import AnyConfig, Config, ConfigPair
from autotune.spec.measurement import CompileFailure, Resources
from autotune.spec.problem import Problem
from autotune.tuning.compile_service.queue import CompileQueue, TimedCompile

ONE, OTHER = Problem(8, 2, 512, 256, 1), Problem(8, 2, 512, 256, 64)
SMALL, LARGE = Resources(16, 0, 512), Resources(8, 64, 1024)
Answers = list[tuple[str, TimedCompile]]


@pytest.fixture
def queue() -> CompileQueue[str]:
    return CompileQueue()


def _config(number: int) -> Config:
    return Config(number, 64, 64, 1, 4, 3)


def _one(config: AnyConfig) -> Binaries:
    return gemm_binaries(ONE, config)


def _take_all(queue: CompileQueue[str]) -> list[int]:
    taken = []
    while (binary := queue.take()) is not None:
        assert isinstance(binary, GemmBinary)
        taken.append(binary.config.block_size_m)
    return taken


def _finish(
    queue: CompileQueue[str], result: Resources | CompileFailure, seconds: float = 1.0
) -> Answers:
    binary = queue.take()
    assert binary is not None
    return queue.note(binary, TimedCompile(result, seconds))


def test_requests_go_first_in_their_order_and_problems_take_turns(queue: CompileQueue[str]) -> None:
    queue.prefetch(ONE, [_one(_config(m)) for m in (16, 32, 48)])
    queue.prefetch(OTHER, [_one(_config(m)) for m in (64, 80)])
    assert queue.request("a", gemm_binaries(ONE, _config(128))) is None
    assert queue.request("b", gemm_binaries(ONE, _config(112))) is None
    assert len(queue) == 7
    assert _take_all(queue) == [128, 112, 16, 64, 32, 80, 48]
    assert len(queue) == 0


def test_prefetches_replace_those_of_their_problem_alone(queue: CompileQueue[str]) -> None:
    queue.prefetch(ONE, [_one(_config(16))])
    queue.prefetch(OTHER, [_one(_config(32))])
    queue.prefetch(ONE, [_one(_config(48))])
    assert sorted(_take_all(queue)) == [32, 48]
    queue.prefetch(OTHER, [])
    assert _take_all(queue) == []


def test_a_binary_in_work_or_known_is_not_taken_again(queue: CompileQueue[str]) -> None:
    queue.prefetch(ONE, [_one(_config(16))])
    binary = queue.take()
    assert binary is not None
    queue.prefetch(OTHER, [_one(_config(16))])
    assert queue.request("a", gemm_binaries(OTHER, replace(_config(16), group_size_m=64))) is None
    assert queue.take() is None
    assert queue.note(binary, TimedCompile(SMALL, 2.0)) == [("a", TimedCompile(SMALL, 2.0))]
    queue.prefetch(OTHER, [_one(_config(16))])
    assert queue.take() is None


def test_what_is_put_back_is_taken_again_before_what_is_only_likely(
    queue: CompileQueue[str],
) -> None:
    queue.request("a", gemm_binaries(ONE, _config(16)))
    binary = queue.take()
    assert binary is not None
    queue.prefetch(ONE, [_one(_config(32))])
    queue.put_back(binary)
    assert _finish(queue, SMALL) == [("a", TimedCompile(SMALL, 1.0))]


def test_seconds_are_charged_once(queue: CompileQueue[str]) -> None:
    assert queue.request("a", gemm_binaries(ONE, _config(16))) is None
    assert queue.request("b", gemm_binaries(OTHER, _config(16))) is None
    answers = _finish(queue, SMALL, seconds=3.0)
    assert [(asker, answer.seconds) for asker, answer in answers] == [("a", 3.0), ("b", 0.0)]
    assert queue.request("c", gemm_binaries(ONE, _config(16))) == TimedCompile(SMALL, 0.0)


def test_of_a_pair_the_worse_of_each_resource_counts(queue: CompileQueue[str]) -> None:
    pair = ConfigPair(_config(16), replace(_config(16), num_warps=8))
    queue.request("a", gemm_binaries(ONE, pair))
    assert _finish(queue, SMALL) == []
    both = TimedCompile(Resources(16, 64, 1024), 2.0)
    assert _finish(queue, LARGE) == [("a", both)]
    assert queue.request("b", gemm_binaries(ONE, pair)) == replace(both, seconds=0.0)


def test_one_failure_of_a_pair_is_enough_and_is_told_once(queue: CompileQueue[str]) -> None:
    pair = ConfigPair(_config(16), replace(_config(16), num_warps=8))
    queue.request("a", gemm_binaries(ONE, pair))
    failed = TimedCompile(CompileFailure("no", "up"), 1.0)
    assert _finish(queue, CompileFailure("no")) == [("a", failed)]
    assert _finish(queue, CompileFailure("neither")) == []


def test_what_was_prefetched_answers_a_request_at_once(queue: CompileQueue[str]) -> None:
    queue.prefetch(ONE, [_one(_config(16))])
    assert _finish(queue, SMALL, seconds=3.0) == []
    assert queue.request("a", gemm_binaries(OTHER, _config(16))) == TimedCompile(SMALL, 3.0)
