"""Injects faults into a run until it has had enough of them: is anything lost, stuck or different?

    python benchmarks/survival/chaos.py [--faults 200] [--seed 0] [--studies 18] [--log FILE]
    python benchmarks/survival/chaos.py --faults 100 --postgres --log FILE

A run without faults comes first. Then the same run goes through kill -9 of measuring children,
workers, compile processes and the whole run (which is then resumed); measurements that hang or
abort in C; configs that always abort or read address 0; compilers that hang, crash, raise or eat
memory; the database locked by another process; as root, a full disk; and the storage deleted,
replaced, cut or overwritten (of a server: emptied, its tables dropped). Then the run must end, and
name a file with all that a reader had seen, from which it goes on. Every study measures its whole
space, so that the winner does not depend on what the sampler had seen when a fault came.

Prints each fault as it is done, and each kind's count, and writes the same to the log as it goes.
Exits with 1 where a run did not end, or named no file with what a reader had seen, once its storage
was destroyed; and where at the end a trial that a reader once saw measured (completed or pruned) is
missing or changed, a config has no measurement that should have one, a trial hangs, or a winner is
another than without faults.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent / "workers"), str(HERE.parents[1] / "tests")]

import psutil  # noqa: E402
import sqlalchemy  # noqa: E402
from destroy import DESTROY, DESTROY_SERVER, new_database, rescued  # noqa: E402
from faulty import compile_fault_of, fault_of, log  # noqa: E402
from landscape import BATCH_SIZES, SHAPE, save_landscape  # noqa: E402
from optuna.trial import TrialState  # noqa: E402

from autotune.studies.storage.open import opened  # noqa: E402
from autotune.studies.study_record import StoredStudy, stored_studies  # noqa: E402
from autotune.studies.trial_record import MEASURED, config_of  # noqa: E402

if TYPE_CHECKING:
    from servers import Server

ALL = 10_000
"""More trials than the space has configs."""
FAST_MS = 2.0
DISK_MIB = 64
KILLS = {"kill child": 6, "kill worker": 5, "kill compiler": 4, "kill run": 2}
ORDERED = {"hang": 1, "abort": 6}
"""Kind → how often among others."""
Seen = dict[tuple[str, int], tuple[str, float]]
"""Study and number of each trial that has been measured → its state and value."""


def main() -> int:
    args = _arguments()
    say = Say(args.log)
    say(f"{sys.argv[1:]}, load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    with (
        tempfile.TemporaryDirectory() as name,
        _disk(Path(name) / "disk", args) as is_small,
        _server(args) as server,
    ):
        if args.fulls and not is_small:
            say("no disk can be mounted here: none will be full (try as root)")
        chaos = Chaos(Path(name), args, say, is_small=is_small, server=server)
        winners = chaos.run_without_faults()
        try:
            chaos.run_with_faults()
        finally:
            chaos.end()
        return chaos.verdict(winners)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--faults", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--studies", type=int, default=18, help="at most 18")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--measure-ms", type=float, default=500.0, help="while there are faults")
    parser.add_argument("--every", type=float, default=1.2, help="seconds between faults")
    parser.add_argument("--minutes", type=float, default=20.0, help="no more faults after these")
    parser.add_argument("--log", type=Path, help="what is printed goes there too, as it goes")
    parser.add_argument("--locks", type=int, default=3, help="times the database is locked")
    parser.add_argument("--lock-s", type=float, default=20.0)
    parser.add_argument("--fulls", type=int, default=3, help="times the disk is full")
    parser.add_argument("--full-s", type=float, default=10.0)
    parser.add_argument("--losses", type=int, default=5, help="times the storage is destroyed")
    parser.add_argument("--postgres", action="store_true", help="on a private PostgreSQL")
    parser.add_argument("--run-timeout", type=float, default=15.0, help="a child's start counts")
    parser.add_argument("--compile-timeout", type=float, default=2.0)
    return parser.parse_args()


class Say:
    """Prints, and writes the same to a log at once."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        if path is not None:
            path.write_text("")

    def __call__(self, line: str) -> None:
        print(line, flush=True)
        if self._path is not None:
            with self._path.open("a") as file:
                file.write(line + "\n")


class Chaos:
    """A run, what is done to it, and what was seen of it."""

    def __init__(
        self,
        folder: Path,
        args: argparse.Namespace,
        say: Say,
        *,
        is_small: bool,
        server: Server | None,
    ) -> None:
        self._say = say
        self._folder, self._disk, self._args = folder, folder / "disk", args
        self._random = random.Random(args.seed)
        self._sizes = BATCH_SIZES[: args.studies]
        self._recording = save_landscape(folder / "recording.npz", self._sizes, small=True)
        for name in ("orders", "struck"):
            (folder / name).mkdir()
        (folder / "workers").write_text(str(args.workers))
        os.environ["CHAOS_FOLDER"] = str(folder)
        self._server = server
        self._storage = server.new_url() if server else f"sqlite:///{self._disk / 'chaos.db'}"
        self._not_rescued = 0
        self._seen: Seen = {}
        self._run: subprocess.Popen[bytes] | None = None
        self._starts = self._measured_before = 0
        kinds = list(DESTROY_SERVER if server else DESTROY)
        rare = ["lock database"] * args.locks + ["fill disk"] * args.fulls * is_small
        rare += [kinds[number % len(kinds)] for number in range(args.losses)]
        self._random.shuffle(rare)
        self._rare = [
            (args.faults * (place + 1) // (len(rare) + 1), kind) for place, kind in enumerate(rare)
        ]

    def run_without_faults(self) -> dict[str, object]:
        """Study → its winner."""
        self._pace(FAST_MS)
        storage = f"sqlite:///{self._disk / 'calm.db'}"
        begin = time.monotonic()
        subprocess.run(
            self._command(storage, "calm"),
            env=os.environ | {"CHAOS_FAULTS": "none"},
            check=True,
            stdout=subprocess.DEVNULL,
        )
        self._say(f"without faults: {time.monotonic() - begin:.0f} s")
        return _winners(_studies(storage))

    def run_with_faults(self) -> None:
        """Return when the run has had its faults and is done."""
        self._pace(self._args.measure_ms)
        begin = time.monotonic()
        until = begin + 60 * self._args.minutes
        self._start()
        while self._is_going() and not self._is_enough() and time.monotonic() < until:
            if not self._is_measuring():
                time.sleep(0.2)
                self._look()
                continue
            kind = self._next()
            is_done = self._do(kind)
            if is_done:
                self._say(
                    f"{time.monotonic() - begin:6.1f} s: {kind} ({self._count} faults in all, "
                    f"{len(self._seen)} measured)"
                )
            time.sleep(self._random.uniform(0.2, 1.8) * self._args.every if is_done else 0.2)
            self._look()
        self._say(f"{time.monotonic() - begin:6.1f} s: no more faults; the run goes on to its end")
        self._pace(FAST_MS)
        while self._is_going(may_end=True):
            time.sleep(0.5)
            self._look()
        self._say(f"with faults: {time.monotonic() - begin:.0f} s, {self._starts} starts")

    def end(self) -> None:
        """Leave no run behind."""
        if self._run is not None:
            self._run.kill()
            self._run.wait()

    def verdict(self, winners: dict[str, object]) -> int:
        """Prints what was found; 1 where something is wrong."""
        studies = _studies(self._storage)
        counts = self._counts()
        for kind, count in sorted(counts.items()):
            self._say(f"{count:5d} × {kind}")
        present = {
            (study.name, trial.number): (trial.state.name, trial.value)
            for study in studies
            for trial in study.trials
            if trial.state in MEASURED
        }
        seen = {key: value for key, value in self._seen.items() if key[0] in winners}
        lost = [key for key, value in seen.items() if present.get(key) != value]
        running = [t for s in studies for t in s.trials if t.state is TrialState.RUNNING]
        unlike = {name for name, winner in _winners(studies).items() if winner != winners[name]}
        part = {study.name: left for study in studies if (left := self._unmeasured(study))}
        doubled = sum(_doubled(study) for study in studies)
        pruned = sum(state == "PRUNED" for state, _ in present.values())
        self._say(
            f"{counts.total()} faults; {len(seen)} measured trials seen, {len(present)} at the end "
            f"({pruned} pruned), {len(lost)} lost; "
            f"{len(studies)} studies, {len(part)} not whole, {len(unlike)} with another winner; "
            f"{doubled} configs measured twice; {len(running)} trials running; "
            f"{self._not_rescued} trials seen before a storage was destroyed are in no rescue file"
        )
        for name, number in lost:
            was, now = seen[name, number], present.get((name, number))
            self._say(f"{name}: trial {number} was {was}, is {now}")
        for study in studies:
            for config in part.get(study.name, ()):
                self._say(f"{study.name}: not measured: {config}: {_history(study, config)}")
        whole = len(studies) == len(winners)
        is_bad = lost or running or unlike or part or doubled or self._not_rescued
        return int(bool(is_bad or not whole))

    def _unmeasured(self, study: StoredStudy) -> list[object]:
        """Configs without a time that should have one."""
        have = {config_of(trial) for trial in study.trials if trial.state in MEASURED}
        tokens = study.key.problem.tokens
        return [
            config
            for config in _all_configs(self._recording)
            if config not in have and not fault_of(tokens, config) and not compile_fault_of(config)
        ]

    # Running it.

    def _command(self, storage: str, output: str) -> list[str]:
        args = self._args
        words = [sys.executable, str(HERE / "faulty.py"), "run", "--quiet", "--shape", SHAPE]
        words += ["--device", "cuda"]
        words += ["--trials", str(ALL), "--stop-gain", "0", "--storage", storage]
        words += ["--run-timeout", str(args.run_timeout), "--compile-jobs", "2"]
        words += ["--compile-timeout", str(args.compile_timeout)]

        words += ["--output-dir", str(self._disk / output)]
        return [*words, "--batch-size", *map(str, self._sizes)]

    def _start(self) -> None:
        command = self._command(self._storage, "files")
        if self._seen:
            command = [sys.executable, str(HERE / "faulty.py"), "resume", "--quiet"]
            command += ["--storage", self._storage]
        messages = (self._folder / "messages.log").open("ab")
        with messages:
            self._run = subprocess.Popen(
                command, stdout=subprocess.DEVNULL, stderr=messages, cwd=self._disk
            )
        self._starts += 1
        self._measured_before = self._measured()

    def _is_going(self, *, may_end: bool = False) -> bool:
        """Starts it again where it was ended, or ended itself in want of a disk."""
        assert self._run is not None
        code = self._run.poll()
        if code is None:
            return True
        if code == 0:
            if not may_end:
                self._say("the run is done before its faults: ask for more studies or fewer faults")
            return False
        if self._starts > 10 + self._args.faults:
            raise SystemExit((self._folder / "messages.log").read_text()[-3000:])
        time.sleep(0.5)
        self._start()
        return True

    def _is_measuring(self) -> bool:
        """True once this life of the run has measured: what is killed while it starts, over and
        over, never gets anywhere."""
        return self._measured() > self._measured_before

    def _measured(self) -> int:
        path = self._folder / "gpu.log"
        return path.read_text().count("\n") if path.exists() else 0

    def _pace(self, measure_ms: float) -> None:
        path = self._folder / "measure_ms"
        path.with_suffix(".new").write_text(str(measure_ms))
        path.with_suffix(".new").replace(path)

    # Doing it harm.

    def _is_enough(self) -> bool:
        return not self._rare and self._count >= self._args.faults

    def _next(self) -> str:
        if self._rare and self._count >= self._rare[0][0]:
            return self._rare.pop(0)[1]
        kinds = KILLS | ORDERED
        return self._random.choices(list(kinds), list(kinds.values()))[0]

    def _do(self, kind: str) -> bool:
        """False where there was nothing to harm."""
        if kind in ORDERED:
            (self._folder / "orders" / kind).touch()
            return True
        harm: dict[str, Callable[[], bool]] = {
            "kill child": lambda: _kill(self._child()),
            "kill worker": lambda: _kill(self._worker()),
            "kill compiler": lambda: _kill(self._newest("compile.log")),
            "kill run": lambda: _kill(self._run.pid if self._run else None),
            "lock database": lambda: _lock(self._storage, self._args.lock_s),
            "fill disk": lambda: _fill(self._disk, self._args.full_s),
        }
        if kind in DESTROY or kind in DESTROY_SERVER:
            return self._destroy(kind)
        is_done = harm[kind]()
        if is_done:
            log("faults.log", kind, "|")
        return is_done

    def _destroy(self, kind: str) -> bool:
        """Destroy the storage under the run; hold what it rescues against what was there, and let
        it go on from that."""
        assert self._run is not None
        before = _by_config(self._storage)
        messages = self._folder / "messages.log"
        said = messages.stat().st_size
        began = time.monotonic()
        (DESTROY_SERVER if self._server else DESTROY)[kind](self._storage)
        log("faults.log", kind, "|")
        try:
            code = self._run.wait(60)
        except subprocess.TimeoutExpired:
            raise SystemExit(f"{kind}: the run goes on\n{messages.read_text()[-2000:]}") from None
        words = messages.read_bytes()[said:].decode(errors="replace")
        path = rescued(words)
        if path is None or code != 1:
            raise SystemExit(f"{kind}: ended with {code}, and no file is named\n{words[-3000:]}")
        kept = _by_config(f"sqlite:///{path}")
        lost = [key for key, value in before.items() if kept.get(key) != value]
        self._not_rescued += len(lost)
        self._say(
            f"{kind}: the run ended after {time.monotonic() - began:.1f} s; {len(before)} measured "
            f"trials were there, {len(kept)} are rescued, {len(lost)} of the former are not"
        )
        self._seen = {}
        self._storage = f"sqlite:///{path}"
        if self._server:
            self._storage = new_database(self._server, f"sqlite:///{path}")
        self._look()
        self._start()
        return True

    def _child(self) -> int | None:
        return self._newest("gpu.log")

    def _worker(self) -> int | None:
        child = self._child()
        parent = _parent(child) if child else None
        return None if self._run is None or parent == self._run.pid else parent

    def _newest(self, name: str) -> int | None:
        """A living process of this run that wrote to the log."""
        path = self._folder / name
        lines = path.read_text().splitlines()[-20:] if path.exists() else []
        alive = {pid for line in lines if _parent(pid := int(line.split()[0])) not in (None, 1)}
        return self._random.choice(sorted(alive)) if alive else None

    # Looking at it.

    @property
    def _count(self) -> int:
        return sum(self._counts().values())

    def _counts(self) -> Counter[str]:
        path = self._folder / "faults.log"
        lines = path.read_text().splitlines() if path.exists() else []
        return Counter(line.split(" |")[0] for line in lines)

    def _look(self) -> None:
        """As any reader would: what is measured by now."""
        with suppress(sqlalchemy.exc.SQLAlchemyError):
            for key, found in _measured(self._storage).items():
                self._seen.setdefault(key, found)


def _measured(storage: str) -> Seen:
    query = (
        "SELECT study_name, number, state, value FROM trials JOIN studies USING (study_id) "
        "JOIN trial_values USING (trial_id) WHERE state IN ('COMPLETE', 'PRUNED')"
    )
    with _reader(storage) as reader:
        rows = reader.exec_driver_sql(query)
        return {(name, number): (state, value) for name, number, state, value in rows}


@contextmanager
def _reader(storage: str) -> Iterator[sqlalchemy.Connection]:
    path = storage.removeprefix("sqlite:///")
    url = storage
    if path != storage:
        url = f"sqlite:///file:{path}?mode=rw&uri=true&timeout=1"
    engine = sqlalchemy.create_engine(url)
    try:
        with engine.connect() as connection:
            yield connection
    finally:
        engine.dispose()


def _studies(storage: str) -> list[StoredStudy]:
    with opened(storage) as source:
        return stored_studies(source)


def _by_config(storage: str) -> dict[tuple[str, object], tuple[str, float]]:
    """Study and config of each measured trial → its state and value."""
    return {
        (study.name, config_of(trial)): (trial.state.name, trial.value or 0.0)
        for study in _studies(storage)
        for trial in study.trials
        if trial.state in MEASURED
    }


def _history(study: StoredStudy, config: object) -> str:
    trials = [trial for trial in study.trials if config_of(trial) == config]
    words = (
        f"{t.number} {t.state.name.lower()} {t.user_attrs.get('outcome', 'interrupted')} "
        f"{t.user_attrs.get('reason', '')}"
        for t in trials
    )
    return "; ".join(words) or "never asked"


def _doubled(study: StoredStudy) -> int:
    configs = [config_of(trial) for trial in study.trials if trial.state in MEASURED]
    return len(configs) - len(set(configs))


def _winners(studies: list[StoredStudy]) -> dict[str, object]:
    return {
        study.name: min(
            (entry for entry in study.measured if entry.complete),
            key=lambda entry: entry.geomean_us,
        ).config
        for study in studies
    }


def _all_configs(recording: Path) -> list[object]:
    from autotune.backends.replay.measurer import ReplayMeasurer
    from autotune.spec.problem import Problem

    return list(ReplayMeasurer(recording).space(Problem(8, 2, 512, 256, 1)).configs)


def _kill(pid: int | None) -> bool:
    if pid is None:
        return False
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def _parent(pid: int) -> int | None:
    """None where the process is gone."""
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else process.ppid()
    except psutil.NoSuchProcess:
        return None


def _lock(storage: str, seconds: float) -> bool:
    is_file = storage.startswith("sqlite")
    engine = sqlalchemy.create_engine(
        storage, connect_args={"timeout": 30} if is_file else {}, isolation_level="AUTOCOMMIT"
    )
    with engine.connect() as other:
        other.exec_driver_sql("BEGIN EXCLUSIVE" if is_file else "BEGIN")
        if not is_file:
            other.exec_driver_sql("LOCK TABLE studies, trials IN ACCESS EXCLUSIVE MODE")
        time.sleep(seconds)
        other.exec_driver_sql("ROLLBACK")
    engine.dispose()
    return True


def _fill(disk: Path, seconds: float) -> bool:
    ballast = disk / "ballast"
    try:
        with ballast.open("wb", buffering=0) as file, suppress(OSError):
            while True:
                file.write(bytes(4096))
        time.sleep(seconds)
    finally:
        ballast.unlink()
    return True


@contextmanager
def _server(args: argparse.Namespace) -> Iterator[Server | None]:
    if not args.postgres:
        yield None
        return
    import servers

    with servers.postgres() as server:
        yield server


@contextmanager
def _disk(mount: Path, args: argparse.Namespace) -> Iterator[bool]:
    """A small disk of its own, where we may mount one: whether it is small."""
    mount.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}M", "tmpfs", str(mount)]
    wanted = args.fulls > 0
    mounted = wanted and subprocess.run(command, check=False, capture_output=True).returncode == 0
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(mount)], check=True)


if __name__ == "__main__":
    sys.exit(main())
