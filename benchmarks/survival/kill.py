"""Kills a run with SIGKILL at random moments, then lets it finish: is anything lost or stuck?

    python benchmarks/survival/kill.py [--kills 20] [--seed 0] [--device estimate:NVIDIA_H200]

Runs the installed autotune in a temporary folder. Prints, for each kill, how many finished
trials were there before and after the next start, and at the end the counts of every study.
Exits with 1 where a finished trial was lost, a study lacks measurements, or a trial hangs.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import optuna

from autotune.errors import StorageError
from autotune.studies.storage.open import open_storage
from autotune.studies.study_record import StoredStudy, stored_studies


def main() -> int:
    args = _arguments()
    moments = random.Random(args.seed)
    lost = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        command = _command(args)
        for number in range(1, args.kills + 1):
            before = _finished(folder)
            wait_s = moments.uniform(0.5, args.longest)
            _run_and_kill(command, folder, wait_s)
            after = _finished(folder)
            lost += len(before - after)
            print(f"kill {number:2d} after {wait_s:4.1f} s: {len(before)} -> {len(after)} finished")
        before = _finished(folder)
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        lost += len(before - _finished(folder))
        return _verdict(_studies(folder), args.trials, lost)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--longest", type=float, default=8.0, help="seconds of one life")
    parser.add_argument("--device", default="estimate:NVIDIA_H200")
    parser.add_argument("--model", default="Qwen/Qwen3-30B-A3B")
    parser.add_argument("--batch-size", nargs="+", default=["1", "64", "1024"])
    parser.add_argument("--trials", type=int, default=30)
    return parser.parse_args()


def _command(args: argparse.Namespace) -> list[str]:
    words = [sys.executable, "-m", "autotune", "run", "--quiet", "--model", args.model]
    words += ["--device", args.device, "--trials", str(args.trials), "--stop-gain", "0"]
    words += ["--batch-size"]
    return [*words, *args.batch_size]


def _run_and_kill(command: list[str], folder: Path, wait_s: float) -> None:
    run = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL)
    try:
        run.wait(wait_s)
    except subprocess.TimeoutExpired:
        run.kill()
        run.wait()
    time.sleep(0.2)  # its children end by themselves


def _studies(folder: Path) -> list[StoredStudy]:
    try:
        storage = open_storage(str(folder / "autotune.db"), create=False)
    except StorageError:
        return []
    return stored_studies(storage)


def _finished(folder: Path) -> set[tuple[str, int]]:
    return {
        (study.name, trial.number)
        for study in _studies(folder)
        for trial in study.trials
        if trial.state.is_finished()
    }


def _verdict(studies: list[StoredStudy], trials: int, lost: int) -> int:
    running = 0
    for study in studies:
        states = [trial.state for trial in study.trials]
        hanging = states.count(optuna.trial.TrialState.RUNNING)
        running += hanging
        print(f"{study.name}: {len(study.measured)} of {trials} measured, {hanging} running")
    short = sum(len(study.measured) != trials for study in studies)
    print(f"{lost} finished trials lost, {short} studies short, {running} trials running")
    return int(bool(lost or short or running or not studies))


if __name__ == "__main__":
    sys.exit(main())
