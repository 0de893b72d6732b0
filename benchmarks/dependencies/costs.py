"""What a library costs where the same is done by hand here, or the other way round.

    python benchmarks/dependencies/costs.py      # half a minute, on an idle machine

``docs/dependencies.md`` rests on what it prints.
"""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import platform
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from timeit import repeat
from types import SimpleNamespace

import filelock
import optuna
import psutil
from optuna.storages import BaseStorage, RDBStorage

from autotune.studies.coordination.leases import _started
from autotune.studies.storage.open import network_disk, open_storage
from autotune.tuning.compile_service.process import _private_bytes
from autotune.tuning.processes.killable import KillableProcess

IMPORTED = ("psutil", "filelock", "pynvml", "pydantic", "pandas", "matplotlib.figure", "jinja2")
WAITS = 40
TRIALS = 500
Taken = Callable[[Path], AbstractContextManager[object]]
optuna.logging.set_verbosity(optuna.logging.WARNING)


def main() -> None:
    load = f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
    print(f"{load}, Python {platform.python_version()}; the least of several\n")
    bare = _cpu_s("pass")
    for name in IMPORTED:
        print(f"import {name}: {1e3 * (_cpu_s(f'import {name}') - bare):.0f} ms of CPU")
    pid = os.getpid()
    _print_calls("start of a process", lambda: _started(pid), lambda: _started_by_psutil(pid))
    memory = KillableProcess.resident_bytes.fget
    this = SimpleNamespace(pid=pid)
    _print_calls("its memory", lambda: memory(this), lambda: psutil.Process(pid).memory_info().rss)
    _print_calls("mounted disks", lambda: network_disk(Path.cwd()), _mounts_by_psutil)
    private, data = _private_bytes(), psutil.Process().memory_info().data
    print(f"what RLIMIT_DATA counts: {private >> 10} KiB, psutil's 'data' {data >> 10} KiB")
    for name, taken in {"flock": flocked, "filelock": file_locked}.items():
        waits = sorted(_wait_s(taken) for _ in range(WAITS))
        mean, most = sum(waits) / WAITS, waits[-1]
        print(
            f"from one process to the next by {name}: {1e3 * mean:.1f} ms, at most {1e3 * most:.1f}"
        )
    _print_reading()
    print(f"ProcessPoolExecutor after a killed process: {_after_a_kill()}")


def _cpu_s(code: str, times: int = 7) -> float:
    """Return the CPU seconds of a fresh Python that runs ``code``."""
    seconds = []
    for _ in range(times):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run((sys.executable, "-c", code), check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)
    return min(seconds)


def _print_calls(what: str, ours: Callable[[], object], theirs: Callable[[], object]) -> None:
    mine, psutils = (min(repeat(call, number=500)) / 500 for call in (ours, theirs))
    print(f"{what}: by hand {1e6 * mine:.0f} µs, by psutil {1e6 * psutils:.0f} µs")


def _started_by_psutil(pid: int) -> float | None:
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else process.create_time()
    except psutil.NoSuchProcess:
        return None


def _mounts_by_psutil() -> list[str]:
    return [disk.fstype for disk in psutil.disk_partitions(all=True)]


@contextmanager
def flocked(path: Path) -> Iterator[None]:
    """Wait as ``backends/gpu/testbed.py`` does: the kernel wakes who waits."""
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def file_locked(path: Path) -> AbstractContextManager[object]:
    """Wait by looking again and again."""
    return filelock.FileLock(path)


def _wait_s(taken: Taken) -> float:
    """Return the seconds from one process's giving a lock back to another's having it."""
    fork = multiprocessing.get_context("fork")
    mine, theirs = fork.Pipe()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "lock")
        other = fork.Process(target=_take, args=(taken, path, theirs))
        other.start()  # before the lock is held, which a fork would hold, too
        with taken(path):
            mine.send(None)
            time.sleep(random.uniform(0.1, 0.2))
            given = time.monotonic()
        had = mine.recv()
        other.join()
    return had - given


def _take(taken: Taken, path: Path, link: Connection) -> None:
    link.recv()
    with taken(path):
        link.send(time.monotonic())


def _print_reading() -> None:
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/a.db"
        ours = open_storage(url, create=True)
        study = optuna.create_study(storage=ours)
        distributions = {name: optuna.distributions.IntDistribution(0, 9) for name in "abcdef"}
        study.add_trials(
            optuna.create_trial(
                params=dict.fromkeys("abcdef", 1),
                distributions=distributions,
                value=1.0,
                user_attrs={"outcome": "ok", "worker": "w"},
                intermediate_values=dict.fromkeys(range(10), 1.0),
            )
            for _ in range(TRIALS)
        )
        cpu = {"Optuna": _reading_cpu_s(RDBStorage(url)), "ours": _reading_cpu_s(ours)}
    words = ", ".join(f"{name} {1e3 * seconds:.0f} ms of CPU" for name, seconds in cpu.items())
    print(f"reading {TRIALS} trials from SQLite: {words}")


def _reading_cpu_s(storage: BaseStorage) -> float:
    [study] = storage.get_all_studies()
    found = []
    for _ in range(5):
        began = time.process_time()
        assert len(storage.get_all_trials(study._study_id)) == TRIALS
        found.append(time.process_time() - began)
    return min(found)


def _after_a_kill() -> str:
    with ProcessPoolExecutor(2) as pool:
        pool.submit(signal.raise_signal, signal.SIGKILL).exception()
        try:
            pool.submit(os.getpid).result()
        except BrokenProcessPool as error:
            return str(error)
    return "goes on"


if __name__ == "__main__":
    main()
