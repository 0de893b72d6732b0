"""Workers' ends of one pool, with compilers that misbehave."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from compilers import (  # type: ignore[import-not-found]
    FINE,
    HANG,
    REFUSE,
    SOME,
    answer_of,
    faulty_compiler,
    wait_until,
)

from autotune.backends.binaries import Binaries, gemm_binaries
from autotune.spec.config import Config
from autotune.spec.device import Target
from autotune.spec.measurement import CompileFailure
from autotune.spec.problem import Problem
from autotune.tuning.compile_service.client import CompileClient
from autotune.tuning.compile_service.pool import CompilePool, PoolSpent

PROBLEM = Problem(8, 2, 512, 256, 1)


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[CompilePool]:
    pool = CompilePool(partial(faulty_compiler, tmp_path))
    pool.start(Target("cuda", 90), 1, timeout_s=1.0)
    yield pool
    pool.close()


def _client(pool: CompilePool) -> CompileClient[str]:
    return CompileClient(pool.connect())


def _config(how: int, number: int = 16) -> Config:
    return Config(number, 64, 64, 1, 4, how)


def _binaries(how: int, number: int = 16) -> Binaries:
    return gemm_binaries(PROBLEM, _config(how, number))


def test_workers_share_what_is_compiled(pool: CompilePool) -> None:
    clients = [_client(pool) for _ in range(2)]
    answers = [answer_of(client, PROBLEM, _config(FINE)) for client in clients]
    assert [answer and answer.result for answer in answers] == [SOME, SOME]
    assert pool.spent.binaries == 1
    refused = answer_of(clients[0], PROBLEM, _config(REFUSE))
    assert refused is not None
    assert isinstance(refused.result, CompileFailure)


def test_prefetches_reach_the_pool(pool: CompilePool) -> None:
    client = _client(pool)
    client.prefetch(PROBLEM, [_binaries(FINE, 32), _binaries(FINE, 48)])
    client.prefetch(PROBLEM, [_binaries(FINE, 64)])
    answer_of(client, PROBLEM, _config(FINE, 80))
    answer_of(client, PROBLEM, _config(FINE, 64))
    client.close()
    assert 2 <= pool.spent.binaries <= 3  # the first may be begun before it is replaced


def test_items_come_out_as_they_are_compiled(pool: CompilePool) -> None:
    client = _client(pool)
    answer_of(client, PROBLEM, _config(FINE))
    for item, config in (("a", _config(HANG)), ("b", _config(FINE))):
        client.request(item, gemm_binaries(PROBLEM, config))
    assert len(client) == 2
    out: list[str] = []
    wait_until(lambda: out.extend(item for item, _ in client.compiled()) or len(out) == 2)
    assert out == ["b", "a"]  # what is known need not wait
    assert len(client) == 0


def test_what_is_given_up_comes_no_more(pool: CompilePool) -> None:
    client = _client(pool)
    client.request("a", _binaries(FINE, 32))
    assert client.clear() == ["a"]
    client.request("b", _binaries(FINE, 48))
    out: list[str] = []
    wait_until(lambda: bool(out.extend(item for item, _ in client.compiled()) or out))
    assert out == ["b"]


def test_a_worker_that_goes_leaves_the_pool_to_others(pool: CompilePool) -> None:
    client, other = _client(pool), _client(pool)
    client.request("a", _binaries(HANG))
    assert client.connection is not None
    with socket.socket(fileno=os.dup(client.connection.fileno())) as pipe:
        pipe.shutdown(socket.SHUT_RDWR)  # as when its process ends
    assert answer_of(other, PROBLEM, _config(FINE)) is not None
    assert client.compiled() == [("a", None)]
    assert answer_of(client, PROBLEM, _config(FINE)) is None


def test_nobody_waits_for_a_pool_that_is_gone(pool: CompilePool) -> None:
    client = _client(pool)
    client.request("a", _binaries(HANG))
    pool.close()
    assert client.compiled() == [("a", None)]
    assert client.connection is None
    late = _client(pool)
    late.request("b", _binaries(FINE))
    assert late.compiled() == [("b", None)]


def test_what_is_asked_before_the_pool_starts_is_answered_after(tmp_path: Path) -> None:
    pool = CompilePool(partial(faulty_compiler, tmp_path))
    client = _client(pool)
    client.request("a", _binaries(FINE))
    assert client.compiled() == []
    pool.start(Target("cuda", 90), 1)
    try:
        assert answer_of(client, PROBLEM, _config(FINE, 32)) is not None
    finally:
        pool.close()


def test_a_pool_that_never_starts_lets_everybody_go(tmp_path: Path) -> None:
    pool = CompilePool(partial(faulty_compiler, tmp_path))
    client = _client(pool)
    client.request("a", _binaries(FINE))
    pool.close()
    assert client.compiled() == [("a", None)]
    assert pool.spent == PoolSpent()


def test_without_a_pool_nothing_waits() -> None:
    client: CompileClient[str] = CompileClient()
    client.prefetch(PROBLEM, [_binaries(FINE)])
    client.request("a", _binaries(FINE))
    assert client.compiled() == [("a", None)]
