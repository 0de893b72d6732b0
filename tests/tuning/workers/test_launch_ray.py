"""Workers by Ray: on a real cluster of two nodes with two pretended GPUs each, where Ray is
installed; what needs no cluster is tested everywhere."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from alive import is_alive
from echoing import start_echo  # type: ignore[import-not-found]

from autotune.errors import DeviceError, MissingExtraError, UsageError
from autotune.tuning.workers.launch_ray import Cluster, RayProcess, _Relay, check_reach, connected

_HERE = socket.gethostname()
_PATIENCE_S = 60.0


def test_a_cluster_of_this_machine_alone_may_use_any_storage() -> None:
    for storage in ("autotune.db", "journal:x", "postgresql://u@/db"):
        check_reach(storage, {_HERE})


@pytest.mark.parametrize(
    ("storage", "words"),
    [
        ("autotune.db", "cannot open autotune.db"),
        ("sqlite:////share/autotune.db", "cannot open"),
        ("journal:relative/x", "whole path"),
        ("postgresql://u:secret@127.0.0.1/db", "not this machine"),
        ("postgresql://u:secret@/db", "not this machine"),
    ],
)
def test_what_other_machines_would_not_reach_is_refused(storage: str, words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        check_reach(storage, {_HERE, "node2"})
    assert "secret" not in str(caught.value)


def test_what_other_machines_reach() -> None:
    for storage in ("journal:/share/x", "postgresql://u@db.example/db"):
        check_reach(storage, {_HERE, "node2"})


def test_without_ray_its_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"moe-autotune\[ray\]"), connected("auto", "a.db"):
        pass


class RayHere:
    """As much of Ray as a worker's handle needs, with actors that are objects of this process."""

    class exceptions:  # noqa: N801  as in Ray
        class RayError(Exception):
            pass

    def get(self, call: Any) -> Any:
        return call()

    def wait(self, refs: list[Any], timeout: float) -> tuple[list[Any], list[Any]]:
        return refs, []

    def kill(self, actor: Any) -> None:
        actor.relay._process.kill()


class ActorHere:
    """An actor whose methods are called when their results are got."""

    def __init__(self, relay: Any) -> None:
        self.relay = relay

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.relay, name, print)  # __ray_ready__ is Ray's own
        return SimpleNamespace(remote=lambda *args: partial(method, *args))


def test_a_handle_carries_messages_and_tells_the_exit_code() -> None:
    process = RayProcess(RayHere(), ActorHere(_Relay(start_echo, "a")))
    assert _ready(process.link)[:2] == ("ready", "a")
    for message in (1, "x" * 100_000, None):
        process.link.send(message)
        assert _ready(process.link) == message
    process.link.send("leave")
    with pytest.raises(EOFError):
        _ready(process.link)
    assert process.kill(20) == 0


def test_a_handle_tells_what_a_worker_died_of() -> None:
    process = RayProcess(RayHere(), ActorHere(_Relay(start_echo, "a")))
    _ready(process.link)
    process.link.send("die")
    with pytest.raises(EOFError):
        _ready(process.link)
    assert process.kill(20) == -signal.SIGABRT


def test_a_handle_kills_its_worker() -> None:
    process = RayProcess(RayHere(), ActorHere(_Relay(start_echo, "a")))
    pid = _ready(process.link)[3]
    assert process.kill() is None
    _wait_for(lambda: not is_alive(pid))


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    pytest.importorskip("ray", reason="no ray: the extra 'ray' is not installed")
    from ray.cluster_utils import Cluster as TestCluster

    paths = [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(paths))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        node = {"num_cpus": 2, "num_gpus": 2, "object_store_memory": 100 << 20}
        cluster = TestCluster(initialize_head=True, head_node_args=node)
        cluster.add_node(**node)
        yield cluster.address
        cluster.shutdown()


@pytest.fixture(scope="module")
def cluster(address: str) -> Iterator[Cluster]:
    with connected(address, "autotune.db") as joined:
        yield joined


def _ready(link: Any) -> Any:
    assert link.poll(_PATIENCE_S)
    return link.recv()


def test_each_worker_has_a_gpu_of_its_own_and_all_are_used(cluster: Cluster) -> None:
    assert cluster.hosts == {_HERE}
    assert cluster.free_gpus == 4
    start = cluster.starter(start_echo, gpus=1, cpus=0)
    started = [start(number) for number in range(4)]
    ready = [_ready(process.link) for process in started]
    assert [spec for _, spec, _, _ in ready] == [0, 1, 2, 3]
    assert sorted(gpu for _, _, gpu, _ in ready) == ["0", "0", "1", "1"]  # of two nodes
    with pytest.raises(DeviceError, match="4 GPUs, none of them free"):
        _ = cluster.free_gpus
    for number, process in enumerate(started):
        for message in (number, "x" * 100_000, None):
            process.link.send(message)
            assert _ready(process.link) == message
    for process in started:
        process.link.send("leave")
        with pytest.raises(EOFError):
            _ready(process.link)
        assert process.kill(20) == 0
    _wait_for(lambda: _free(cluster) == 4)


def test_a_dead_worker_is_seen_as_one(cluster: Cluster) -> None:
    start = cluster.starter(start_echo)
    process = start("a")
    _ready(process.link)
    process.link.send("die")
    with pytest.raises(EOFError):
        _ready(process.link)
    code = process.kill(20)
    assert code is not None
    assert code < 0


def test_a_killed_one_takes_its_process_along(cluster: Cluster) -> None:
    start = cluster.starter(start_echo)
    process = start("a")
    pid = _ready(process.link)[3]
    assert process.kill() is None
    _wait_for(lambda: not is_alive(pid))


def _free(cluster: Cluster) -> int:
    with suppress(DeviceError):
        return cluster.free_gpus
    return 0


def _wait_for(condition: Any) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)
