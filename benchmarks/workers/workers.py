"""A whole run of several workers on a pretended GPU each: what it loses, and what it costs.

    python benchmarks/workers/workers.py --workers 8 --measure-ms 15 --studies 18 --trials 60
        [--storage postgresql+psycopg://… | --postgres] [--ray-address ADDRESS]

Prints the counts of every kind of trial, trials per second, the share of the time in which the
pretended GPUs were busy, and CPU time for a trial. Exits with 1 where a trial was lost, doubled
or left running, or where the database's locks reached the user.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from landscape import BATCH_SIZES, SHAPE, save_landscape
from optuna.trial import FrozenTrial, TrialState

from autotune.studies.storage.open import open_storage
from autotune.studies.study_record import StoredStudy, stored_studies
from autotune.studies.trial_record import MEASURED, config_of


@dataclass(frozen=True, slots=True)
class Ran:
    """One run, seen from outside."""

    code: int
    messages: str
    wall_s: float
    cpu_s: float
    """User and system time of all its processes."""


def main() -> int:
    args = _arguments()
    with tempfile.TemporaryDirectory() as name, _server(args) as url:
        folder = Path(name)
        storage = args.storage or url or f"sqlite:///{folder}/autotune.db"
        ran = _run(folder, storage, args)
        studies = stored_studies(open_storage(storage, create=False))
        _print_costs(ran, [trial for study in studies for trial in study.trials], args)
        return _verdict(ran, studies, args)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--measure-ms", type=float, default=15.0)
    parser.add_argument("--studies", type=int, default=18, help="at most 18")
    parser.add_argument("--trials", type=int, default=60)
    parser.add_argument("--sampler", default="surrogate")
    parser.add_argument("--storage", help="an empty database; a SQLite file by default")
    parser.add_argument("--postgres", action="store_true", help="on a private PostgreSQL")
    parser.add_argument("--ray-address", help="workers on this cluster: see ray_nodes.py")
    parser.add_argument("--verbose", action="store_true", help="print what the run said")
    return parser.parse_args()


@contextmanager
def _server(args: argparse.Namespace) -> Iterator[str | None]:
    """The URL of an empty database of a private server, where that is asked for."""
    if not args.postgres:
        yield None
        return
    sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))
    import servers

    with servers.postgres() as server:
        yield server.new_url()


def _run(folder: Path, storage: str, args: argparse.Namespace) -> Ran:
    sizes = BATCH_SIZES[: args.studies]
    recording = save_landscape(folder / "pretended.npz", sizes)
    command = [sys.executable, "-m", "autotune", "run", "--shape", SHAPE, "--quiet"]
    command += [
        "--device",
        f"replay:{recording}@{args.measure_ms:g}ms",
        "--workers",
        str(args.workers),
    ]
    command += ["--trials", str(args.trials), "--stop-gain", "0", "--sampler", args.sampler]
    command += ["--storage", storage, "--output-dir", str(folder / "configs")]
    command += ["--batch-size", *map(str, sizes)]
    if args.ray_address:
        command += ["--launcher", "ray", "--ray-address", args.ray_address]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begin = time.monotonic()
    ended = subprocess.run(
        command,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    wall_s = time.monotonic() - begin
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    if args.verbose:
        print(ended.stdout, ended.stderr, sep="\n")
    return Ran(ended.returncode, ended.stderr, wall_s, cpu_s)


def _print_costs(ran: Ran, trials: Sequence[FrozenTrial], args: argparse.Namespace) -> None:
    count = sum(trial.state in MEASURED for trial in trials)
    spans = [
        (trial.datetime_start, trial.datetime_complete)
        for trial in trials
        if trial.datetime_start and trial.datetime_complete
    ]
    span_s = (max(end for _, end in spans) - min(start for start, _ in spans)).total_seconds()
    busy_s = sum(trial.user_attrs.get("measure_s", 0.0) for trial in trials)
    print(
        f"{args.workers} workers, {args.measure_ms:g} ms a measurement, {os.cpu_count()} cores "
        f"(load {os.getloadavg()[0]:.1f}): {count} measurements in {span_s:.1f} s "
        f"({ran.wall_s:.1f} s with start and end), {count / span_s:.1f} a second"
    )
    share = busy_s / span_s / args.workers
    print(f"pretended GPUs busy {share:.1%} from the first trial to the last")
    print(f"CPU {1000 * ran.cpu_s / count:.1f} ms a trial, all processes, start and end included")


def _verdict(ran: Ran, studies: list[StoredStudy], args: argparse.Namespace) -> int:
    states: Counter[str] = Counter()
    doubled = short = 0
    for study in studies:
        states.update(trial.state.name.lower() for trial in study.trials)
        done = [config_of(trial) for trial in study.trials if trial.state is TrialState.COMPLETE]
        doubled += len(done) - len(set(done))
        short += len(study.measured) < args.trials
    extra = sum(len(study.measured) for study in studies) - args.trials * len(studies)
    is_locked = "locked" in ran.messages
    print(
        f"{len(studies)} studies, trials {dict(states)}; {short} studies short of "
        f"{args.trials}, {extra} more than asked for, {doubled} configs completed twice, "
        f"{states['running']} left running; exit code {ran.code}"
        + ("; 'locked' in what the user sees" if is_locked else "")
    )
    if ran.code:
        print(ran.messages[-3000:])
    wrong = ran.code or short or doubled or states["running"] or is_locked
    return int(bool(wrong or len(studies) != args.studies))


if __name__ == "__main__":
    sys.exit(main())
