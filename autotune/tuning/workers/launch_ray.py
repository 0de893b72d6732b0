"""Workers on a Ray cluster: Ray places them, carries their messages and their logs.

    run's parent ── Pipe ── two threads ── calls of an actor ── Pipe ── worker's process
                            (this module)  (on a node)                 (as on this machine)

The actor holds what Ray gave it (a GPU, a core) and starts an ordinary worker on its node, which
dies with it. Nothing but the storage is shared otherwise. The package travels with the job, so
that every node runs this version; torch, Triton and Optuna must be installed there.
"""

from __future__ import annotations

import logging
import signal
import socket
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from multiprocessing import Pipe
from typing import Any, TypeVar

import autotune
from autotune.errors import DeviceError, UsageError
from autotune.extras import needed
from autotune.studies.storage.url import JournalAddress, SqliteAddress, parse_address
from autotune.tuning.processes.killable import ProcessHandle

_log = logging.getLogger(__name__)
_WAIT_S = 1.0
"""Seconds that a call of the actor waits for something to carry."""
_TURN_S = 0.1
_ATTEMPT_S = 60.0
"""After so long without the asked GPUs or cores, people hear about it."""
_LOOPBACK = ("localhost", "127.0.0.1", "::1", "[::1]")


Spec = TypeVar("Spec")
StartHere = Callable[[Spec], ProcessHandle]
"""Starts a worker in a process of this machine; importable by its name."""


class Cluster:
    """A Ray cluster that this process is connected to; see ``connected``."""

    def __init__(self, ray: Any) -> None:
        self._ray = ray

    @property
    def hosts(self) -> set[str]:
        """Names of the machines with a living node."""
        return {str(n["NodeManagerHostname"]) for n in self._ray.nodes() if n["Alive"]}

    @property
    def free_gpus(self) -> int:
        """Whole GPUs that nobody uses now. Raises DeviceError where there are none."""
        free = int(self._ray.available_resources().get("GPU", 0))
        if free == 0:
            total = int(self._ray.cluster_resources().get("GPU", 0))
            raise DeviceError(
                f"the Ray cluster has {total} GPUs, none of them free. Wait for one, add a node, "
                "or try --device estimate:GPU --workers N"
            )
        return free

    def starter(
        self, start_here: StartHere[Spec], *, gpus: float = 0, cpus: float = 1
    ) -> StartHere[Spec]:
        """Return a ``start_here`` for whichever node has so many free GPUs and cores."""

        def start(spec: Spec) -> ProcessHandle:
            actor = self._ray.remote(_Relay).options(
                num_gpus=gpus, num_cpus=cpus, max_concurrency=2, max_restarts=0
            )
            return RayProcess(self._ray, actor.remote(start_here, spec))

        return start


@contextmanager
def connected(address: str, storage: str) -> Iterator[Cluster]:
    """Join the cluster at ``address`` ("auto": the one of this machine) for as long as it takes.

    Raises MissingExtraError where Ray is not installed, UsageError where nobody answers or the
    cluster's machines would not reach the storage.
    """
    with needed("ray", "--launcher ray"):
        import ray
    try:
        ray.init(
            address=address,
            runtime_env={"py_modules": [autotune]},
            logging_level=logging.WARNING,
            configure_logging=False,
        )
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise UsageError(
            f"no Ray cluster answers at --ray-address {address}: {error}. Start one by "
            "'ray start --head', or give its address"
        ) from error
    try:
        cluster = Cluster(ray)
        check_reach(storage, cluster.hosts)
        yield cluster
    finally:
        ray.shutdown()


def check_reach(storage: str, hosts: Collection[str]) -> None:
    """Raises UsageError where workers on ``hosts`` would not find the storage of this machine."""
    others = sorted(set(hosts) - {socket.gethostname()})
    if not others:
        return
    where = f"the Ray cluster has other machines ({', '.join(others[:3])})"
    advice = "Use postgresql+psycopg://…, or journal:FILE on a disk they share"
    address = parse_address(storage)
    if isinstance(address, SqliteAddress):
        raise UsageError(f"{where}, and they cannot open {address.public}. {advice}")
    if isinstance(address, JournalAddress):
        if not address.path.is_absolute():
            raise UsageError(f"{where}: give the journal's whole path, as journal:/share/FILE")
    elif (address.url.host or "localhost") in _LOOPBACK:
        raise UsageError(f"{where}, for whom {address.public} is not this machine. {advice}")


class RayProcess:
    """A worker on a node, as a process looks; carries its messages until it ends."""

    def __init__(self, ray: Any, actor: Any) -> None:
        self._ray = ray
        self._actor = actor
        self.link, self._far = Pipe()
        self._ended = threading.Event()
        self._exitcode: int | None = None
        self._carries_down = threading.Thread(target=self._down, daemon=True)
        self._carries_up = threading.Thread(target=self._up, daemon=True)
        self._carries_down.start()
        self._carries_up.start()

    def kill(self, grace_s: float = 0.0) -> int | None:
        """See ``ProcessHandle``. Ending the actor ends its worker."""
        self.link.close()
        self._carries_up.join(grace_s)
        code = self._exitcode
        self._ended.set()
        self._ray.kill(self._actor)
        self._carries_up.join()
        return code

    def _up(self) -> None:
        """Carry messages from the worker to the parent."""
        try:
            self._say_if_waiting()
            while not self._ended.is_set():
                messages, exitcode = self._ray.get(self._actor.collect.remote(_WAIT_S))
                for message in messages:
                    self._far.send(message)
                if exitcode is not None:
                    self._exitcode = exitcode
                    break
        except (self._ray.exceptions.RayError, OSError) as error:
            self._exitcode = -signal.SIGKILL  # as far as Ray tells
            if not self._ended.is_set():
                _log.warning("a worker's node is lost: %s", str(error).splitlines()[0])
        finally:
            self._ended.set()
            self._carries_down.join()  # before its end is closed under it
            self._far.close()
            self._ray.kill(self._actor)

    def _down(self) -> None:
        """Carry messages from the parent to the worker."""
        try:
            while not self._ended.is_set():
                if self._far.poll(_TURN_S):
                    self._ray.get(self._actor.deliver.remote(self._far.recv()))
        except (EOFError, OSError, self._ray.exceptions.RayError):
            return

    def _say_if_waiting(self) -> None:
        ready = self._actor.__ray_ready__.remote()
        while not self._ray.wait([ready], timeout=_ATTEMPT_S)[0]:
            _log.warning("a worker waits for Ray to find a place: see 'ray status'")
            if self._ended.is_set():
                return


class _Relay:
    """The actor: a worker on this node, and what passes between it and its parent."""

    def __init__(self, start_here: StartHere[Any], spec: Any) -> None:
        self._process = start_here(spec)

    def deliver(self, message: Any) -> None:
        self._process.link.send(message)

    def collect(self, seconds: float) -> tuple[list[Any], int | None]:
        """Return the worker's messages, waiting at most ``seconds``; and its exit code if gone."""
        messages: list[Any] = []
        try:
            while self._process.link.poll(0.0 if messages else seconds):
                messages.append(self._process.link.recv())
        except (EOFError, OSError):
            code = self._process.kill(_WAIT_S)
            return messages, -signal.SIGKILL if code is None else code
        return messages, None
