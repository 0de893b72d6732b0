"""Do workers on one study disturb each other? Real processes, one SQLite file, replayed times.

    python benchmarks/samplers/workers.py --landscapes benchmarks/landscapes/sglang --seeds 3

Every process asks, sleeps as if it compiled and measured, and tells, until the study has its
measurements. Prints, for one worker and for eight, how many configs were measured twice and
best/optimum, and appends each study to workers.csv. Studies that it has are not run again.
"""

from __future__ import annotations

import argparse
import csv
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path

from race import HERE, Race, prepare, sampler_of, tell  # sets one BLAS thread: before NumPy

# isort: split
import numpy as np
import optuna
from recordings import Recording, recordings

from autotune.studies.search.surrogate import candidates_of
from autotune.studies.storage.open import open_storage

SLEEP_S = (0.02, 0.3)
"""Least and most that a trial takes beside its proposal."""


@dataclass(frozen=True, slots=True)
class Result:
    """A row of workers.csv."""

    recording: str
    seed: int
    workers: int
    trials: int
    duplicates: int
    ratio: float
    """Optimum over the best time found."""
    seconds: float


@dataclass(frozen=True, slots=True)
class Work:
    """One study and who works on it."""

    race: Race
    workers: int
    trials: int

    def run(self) -> Result:
        """Start the processes and wait for them."""
        recording = recordings(self.race.landscapes)[self.race.recording]
        context = multiprocessing.get_context("spawn")
        with tempfile.TemporaryDirectory() as folder:
            url = f"{folder}/study.db"
            study = optuna.create_study(storage=open_storage(url, create=True), study_name="study")
            prepare(study, recording)
            left = context.Value("i", self.trials)
            began = time.monotonic()
            processes = [
                context.Process(target=_work, args=(self, url, left, worker))
                for worker in range(self.workers)
            ]
            for process in processes:
                process.start()
            for process in processes:
                process.join()
            if any(process.exitcode for process in processes):
                raise RuntimeError(f"a worker on {recording.name} died")
            return self._result(recording, study, time.monotonic() - began)

    def _result(self, recording: Recording, study: optuna.Study, seconds: float) -> Result:
        asked = [tuple(trial.params.values()) for trial in study.get_trials(deepcopy=False)]
        return Result(
            recording=recording.name,
            seed=self.race.seed,
            workers=self.workers,
            trials=len(asked),
            duplicates=len(asked) - len(set(asked)),
            ratio=round(recording.optimum_us / study.best_value, 5),
            seconds=round(seconds, 1),
        )


def _work(work: Work, url: str, left: Synchronized[int], worker: int) -> None:
    """What one process does: all have the same sampler with the same seed."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    recording = recordings(work.race.landscapes)[work.race.recording]
    candidates = candidates_of(recording.rows)
    study = optuna.load_study(
        storage=open_storage(url, create=False),
        study_name="study",
        sampler=sampler_of(work.race, recording),
    )
    rng = np.random.default_rng((work.race.seed, worker))
    while _claim(left):
        trial = study.ask(dict(candidates.distributions))
        time.sleep(rng.uniform(*SLEEP_S))
        row = candidates.index(trial.params)
        assert row is not None
        tell(study, trial, recording, row)


def _claim(left: Synchronized[int]) -> bool:
    with left.get_lock():
        left.value -= 1
        return left.value >= 0


def works(args: argparse.Namespace) -> Iterator[Work]:
    """Every study, once with one worker and once with all."""
    for name in recordings(args.landscapes):
        if args.only and not any(word in name for word in args.only):
            continue
        for seed in range(args.seeds):
            for workers in (1, args.workers):
                race = Race(args.landscapes, name, "surrogate", "cold", seed)
                yield Work(race, workers, args.trials)


def print_table(results: Sequence[Result]) -> None:
    """By landscape and workers."""
    print("| landscape | workers | studies | duplicates | best/optimum (worst) | seconds |")
    print("|---" * 6 + "|")
    for name, workers in sorted({(r.recording, r.workers) for r in results}):
        mine = [r for r in results if (r.recording, r.workers) == (name, workers)]
        ratios = [r.ratio for r in mine]
        print(f"| {name} | {workers} | {len(mine)} | {sum(r.duplicates for r in mine)} "
              f"| {np.mean(ratios):.4f} ({min(ratios):.3f}) "
              f"| {np.mean([r.seconds for r in mine]):.0f} |")  # fmt: skip


def _read(path: Path) -> list[Result]:
    if not path.exists():
        return []
    kinds = {"str": str, "int": int, "float": float}
    types = {field.name: kinds[str(field.type)] for field in fields(Result)}
    with path.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [Result(**{name: kind(row[name]) for name, kind in types.items()}) for row in rows]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--landscapes", type=Path, required=True, help="folder of recordings")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--only", nargs="*", help="recordings whose name contains one of these")
    parser.add_argument("--jobs", type=int, default=max((os.cpu_count() or 1) // 8, 1),
                        help="studies at a time")  # fmt: skip
    parser.add_argument("--out", type=Path, default=HERE)
    args = parser.parse_args()
    path = args.out / "workers.csv"
    ready = {(r.recording, r.seed, r.workers, r.trials) for r in _read(path)}
    entries = [w for w in works(args)
               if (w.race.recording, w.race.seed, w.workers, w.trials) not in ready]  # fmt: skip
    is_new = not path.exists()
    with (
        path.open("a", newline="", encoding="utf-8") as file,
        ThreadPoolExecutor(args.jobs) as pool,
    ):
        writer = csv.DictWriter(file, [field.name for field in fields(Result)])
        if is_new:
            writer.writeheader()
        for result in pool.map(Work.run, entries):
            writer.writerow(asdict(result))
            file.flush()
    print_table(_read(path))
    return 0


if __name__ == "__main__":
    sys.exit(main())
