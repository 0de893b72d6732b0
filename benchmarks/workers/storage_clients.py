"""What a trial costs a storage that many processes share: rate, waits, CPU of clients and server.

    python benchmarks/workers/storage_clients.py [--clients 8] [--at-once 1 6] [--storage URL]

As many processes as workers of a run ask and tell in turn over 18 studies, with nothing between:
read the study, ask for trials, end them. Configs are random: what is left is the storage's part.
The server's CPU time is that of its processes for this database, where it runs on this machine.
SQLite's lock, which one client has at a time, is held for the client's CPU time from the first
statement that takes it to the connection's return.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import os
import random
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.synchronize import Barrier
from statistics import median, quantiles
from typing import Any

import psutil
import sqlalchemy
from landscape import BATCH_SIZES
from optuna.samplers import RandomSampler
from optuna.study import Study
from storage_cost import _problem, _result, _study

from autotune.studies.coordination.claims import claim
from autotune.studies.coordination.study_view import StudyView
from autotune.studies.space import Space
from autotune.studies.storage.open import open_storage
from autotune.studies.storage.transactions import transactions_of
from autotune.studies.trial_record import ending

_LOCKING = {"BEGIN", "INSERT", "UPDATE", "DELETE"}


@dataclass(frozen=True, slots=True)
class Task:
    """What every client does."""

    url: str
    at_once: int
    trials: int
    barrier: Barrier
    results: Any


@dataclass(frozen=True, slots=True)
class Did:
    """What one client did between the barriers."""

    began: float
    ended: float
    cpu_s: float
    locked_s: float
    trials: int
    ask_ms: tuple[float, ...]
    """Of each turn."""
    tell_ms: tuple[float, ...]


def main() -> None:
    args = _arguments()
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} before it began")
    print("| clients | at a time | trials a second | ask, tell: median (95 %) ms of a turn "
          "| client CPU ms a trial | server CPU ms a trial | with SQLite's lock "
          "| connections |")  # fmt: skip
    print("|---" * 8 + "|", flush=True)
    for at_once in args.at_once:
        with tempfile.TemporaryDirectory() as name:
            url = args.storage or f"sqlite:///{name}/autotune.db"
            print(_line(url, args.clients, at_once, args.trials), flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--trials", type=int, default=60, help="of each client")
    parser.add_argument("--at-once", type=int, nargs="+", default=[1, 6])
    parser.add_argument("--storage", help="a database that may be filled; SQLite by default")
    return parser.parse_args()


def _line(url: str, clients: int, at_once: int, trials: int) -> str:
    storage = open_storage(url, create=True)
    for number in range(len(BATCH_SIZES)):
        _study(storage, _problem(number), "random", [])
    storage.engine.dispose()  # clients are forked, so that they need not import all of it again
    context = multiprocessing.get_context("fork")
    barrier, results = context.Barrier(clients + 1), context.SimpleQueue()
    task = Task(url, at_once, trials, barrier, results)
    processes = [context.Process(target=_client, args=(task, n)) for n in range(clients)]
    for process in processes:
        process.start()
    barrier.wait()  # all have opened the storage
    server = _Server(url)
    before = server.cpu_s()
    barrier.wait()
    did: list[Did] = [results.get() for _ in processes]
    server_s = None if before is None else (server.cpu_s() or 0.0) - before
    connections = server.connections()
    barrier.wait()
    for process in processes:
        process.join()
    return _row(did, at_once, server_s, connections)


def _row(did: Sequence[Did], at_once: int, server_s: float | None, connections: int) -> str:
    total = sum(each.trials for each in did)
    seconds = max(each.ended for each in did) - min(each.began for each in did)
    ask = [ms for each in did for ms in each.ask_ms]
    tell = [ms for each in did for ms in each.tell_ms]
    waits = ", ".join(f"{median(ms):.1f} ({quantiles(ms, n=20)[-1]:.0f})" for ms in (ask, tell))
    cpu_ms = 1000 * sum(each.cpu_s for each in did) / total
    locked = "" if connections else f"{1000 * sum(each.locked_s for each in did) / total:.2f}"
    server = "" if server_s is None else f"{1000 * server_s / total:.2f}"
    return (
        f"| {len(did)} | {at_once} | {total / seconds:.0f} | {waits} | {cpu_ms:.2f} | {server} "
        f"| {locked} | {connections or ''} |"
    )


def _client(task: Task, number: int) -> None:
    storage = open_storage(task.url, create=False)
    locked = _Locked(storage.engine)
    problems = [_problem(n) for n in range(len(BATCH_SIZES))]
    studies = [_study(storage, problem, "random", []) for problem in problems]
    for study, space in studies:
        study.sampler = _Batches(space, number)
    views = [StudyView(study) for study, _ in studies]
    for view in views:
        view.read()
    task.barrier.wait()
    task.barrier.wait()
    began, cpu, locked.cpu_s = time.monotonic(), time.process_time(), 0.0
    ask_ms, tell_ms, done, place, name = [], [], 0, number, f"client {number}"
    while done < task.trials:
        place = (place + 1) % len(studies)
        (study, space), view = studies[place], views[place]
        start = time.perf_counter()
        view.read()
        asked = claim(study, space, view, name, count=task.at_once, goal=100_000)
        half = time.perf_counter()
        ends = [ending(each, _result(each.number), 1000.0) for each in asked]
        transactions_of(study).finish(ends)
        ask_ms.append(1000 * (half - start))
        tell_ms.append(1000 * (time.perf_counter() - half))
        done += len(asked)
    ended, cpu = time.monotonic(), time.process_time() - cpu
    task.results.put(Did(began, ended, cpu, locked.cpu_s, done, tuple(ask_ms), tuple(tell_ms)))
    task.barrier.wait()  # connections stay until the server was looked at


class _Batches(RandomSampler):
    """Proposes as many random configs as are wanted."""

    def __init__(self, space: Space, seed: int) -> None:
        super().__init__()
        self._space, self._drawn = space, random.Random(seed)

    def propose(self, study: Study, count: int) -> list[dict[str, Any]]:
        return [config.as_keys() for config in self._drawn.sample(self._space.configs, count)]

    def likely(self, study: Study, count: int) -> list[dict[str, Any]]:
        return []

    def expected_gain(self, study: Study) -> float:
        return math.inf


class _Locked:
    """The CPU seconds in which this process has SQLite's lock."""

    def __init__(self, engine: sqlalchemy.Engine) -> None:
        self.cpu_s = 0.0
        self._since: float | None = None
        sqlalchemy.event.listen(engine, "after_cursor_execute", self._on_execute)
        sqlalchemy.event.listen(engine, "checkin", self._on_return)

    def _on_execute(self, _connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        is_begun = statement.split(None, 1)[0].upper() in _LOCKING
        if self._since is None and is_begun:
            self._since = time.process_time()

    def _on_return(self, *_: Any) -> None:
        if self._since is not None:
            self.cpu_s += time.process_time() - self._since
        self._since = None


class _Server:
    """The processes of a PostgreSQL server that serve this database."""

    def __init__(self, url: str) -> None:
        self._engine = None
        if not url.startswith("sqlite"):
            self._engine = sqlalchemy.create_engine(url, isolation_level="AUTOCOMMIT")

    def cpu_s(self) -> float | None:
        """Return their CPU seconds so far; None where they are not on this machine, or none."""
        try:
            return sum(map(_cpu_s, self._pids())) or None
        except OSError:
            return None

    def connections(self) -> int:
        return max(len(self._pids()) - 1, 0)  # without ours

    def _pids(self) -> list[int]:
        if self._engine is None:
            return []
        query = "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
        with self._engine.connect() as connection:
            return [pid for (pid,) in connection.exec_driver_sql(query)]


def _cpu_s(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system


if __name__ == "__main__":
    main()
