from __future__ import annotations

import multiprocessing
import os
import socket
import threading
from collections.abc import Iterator
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
from compilers import FINE, HANG, REFUSE, SOME, faulty_compiler  # type: ignore[import-not-found]

from autotune.spec.config import Config
from autotune.spec.device import Target
from autotune.spec.measurement import CompileFailure
from autotune.spec.problem import Problem
from autotune.tune.compile_service.pool import CompilePool
from autotune.tune.compile_service.service import RemotePool, serve_pool

PROBLEM = Problem(8, 2, 512, 256, 1)
PATIENCE_S = 60.0


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[CompilePool]:
    pool = CompilePool(
        Target("cuda", 90), 1, timeout_s=1.0, open_compiler=partial(faulty_compiler, tmp_path)
    )
    yield pool
    pool.close()


def _served(pool: CompilePool) -> tuple[Connection, threading.Thread]:
    ours, theirs = multiprocessing.Pipe()
    thread = threading.Thread(target=serve_pool, args=(pool, theirs))
    thread.start()
    return ours, thread


def _config(how: int, number: int = 16) -> Config:
    return Config(number, 64, 64, 1, 4, how)


def test_workers_share_what_is_compiled(pool: CompilePool) -> None:
    served = [_served(pool) for _ in range(2)]
    remotes = [RemotePool(connection) for connection, _ in served]
    answers = [remote.need(PROBLEM, _config(FINE)).result(PATIENCE_S) for remote in remotes]
    assert [answer and answer.result for answer in answers] == [SOME, SOME]
    assert pool.spent.binaries == 1
    refused = remotes[0].need(PROBLEM, _config(REFUSE)).result(PATIENCE_S)
    assert refused is not None
    assert isinstance(refused.result, CompileFailure)
    for remote, (_, thread) in zip(remotes, served, strict=True):
        remote.close()
        thread.join(PATIENCE_S)
        assert not thread.is_alive()


def test_wishes_reach_the_pool(pool: CompilePool) -> None:
    connection, thread = _served(pool)
    remote = RemotePool(connection)
    remote.want(PROBLEM, [_config(FINE, 32), _config(FINE, 48)])
    remote.want(PROBLEM, [_config(FINE, 64)])
    remote.need(PROBLEM, _config(FINE, 80)).result(PATIENCE_S)
    remote.close()
    thread.join(PATIENCE_S)
    assert pool.need(PROBLEM, _config(FINE, 64)).result(PATIENCE_S) is not None
    assert pool.spent.binaries == 2


def test_a_worker_that_goes_leaves_the_pool_to_others(pool: CompilePool) -> None:
    connection, thread = _served(pool)
    remote = RemotePool(connection)
    waiting = remote.need(PROBLEM, _config(HANG))
    with socket.socket(fileno=os.dup(connection.fileno())) as pipe:
        pipe.shutdown(socket.SHUT_RDWR)  # as when its process ends
    thread.join(PATIENCE_S)
    assert pool.need(PROBLEM, _config(FINE)).result(PATIENCE_S) is not None
    assert remote.need(PROBLEM, _config(FINE)).result(PATIENCE_S) is None
    assert waiting.result(PATIENCE_S) is None


def test_nobody_waits_for_a_pool_that_is_gone(pool: CompilePool) -> None:
    connection, thread = _served(pool)
    remote = RemotePool(connection)
    waiting = remote.need(PROBLEM, _config(HANG))
    pool.close()
    assert waiting.result(PATIENCE_S) is None
    remote.close()
    thread.join(PATIENCE_S)
