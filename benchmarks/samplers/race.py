"""Measurements that a sampler needs to come close to the optimum: replayed, without a GPU.

    python benchmarks/samplers/race.py --landscapes benchmarks/landscapes/sglang --seeds 20

Writes results.csv and race.png beside itself and prints the tables of README.md. Each run is
written as it ends, and runs that results.csv has are not run again: delete it, or give another
--out, after a change to a sampler. What a run knows beforehand is its scenario:

    cold    both engines' defaults are queued first, nothing else
    static  and the static time model's guess
    same    and every measurement of the model's other batch sizes
    same60  and 60 random measurements of each of these
    other   and every measurement of the other model
    both    as other, with the static time model
    wrong   as static, with the guess upside down: what it takes for fast is slow
"""

from __future__ import annotations

import argparse
import csv
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, fields
from functools import cache
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # the races themselves fill the cores
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import optuna
from optuna.samplers import BaseSampler, GPSampler, RandomSampler, TPESampler
from optuna.trial import Trial, TrialState
from recordings import DEVICE, Recording, recordings
from tables import plot, print_tables

from autotune.backends.estimate.model import model_us
from autotune.backends.hardware import find_spec
from autotune.backends.routed_rows import routed_rows
from autotune.studies.key import StudyKey
from autotune.studies.search.history import Sibling
from autotune.studies.search.surrogate.candidates import candidates_of
from autotune.studies.search.surrogate.sampler import SurrogateSampler, TransferSampler
from autotune.studies.space import Space

HERE = Path(__file__).parent
SCENARIOS = ("cold", "static", "same", "same60", "other", "both", "wrong")
STOCK: dict[str, Callable[[int], BaseSampler]] = {
    "random": lambda seed: RandomSampler(seed=seed),
    "tpe": lambda seed: TPESampler(seed=seed),
    "gp": lambda seed: GPSampler(seed=seed),
}
COLD_BUDGETS, INFORMED_BUDGETS, KERNEL_BUDGETS = (8, 15, 30, 60), (8, 15, 30), (25, 50, 100, 200)
STOP_GAIN = 0.005
ASKS_PER_MEASUREMENT = 50
"""A stock sampler that finds so few feasible points is given up."""
MOST_SECONDS = 120.0
"""Seconds of a core for one run: what it has reached by then counts. Optuna's GP takes seconds a
proposal once it knows a hundred trials."""
ROUTINGS = 3
"""Instances that the static guess is averaged over."""


@dataclass(frozen=True, slots=True)
class Race:
    """One run of one sampler."""

    landscapes: Path
    recording: str
    sampler: str
    scenario: str
    seed: int


@dataclass(frozen=True, slots=True)
class Result:
    """A row of results.csv."""

    recording: str
    group: str
    sampler: str
    scenario: str
    seed: int
    trials: int
    ratio: float
    """Optimum over the best time found in so many trials."""
    repeats: int
    """Repeats in the whole run."""
    ask_s: float
    """Mean seconds of a proposal over the whole run."""
    last_ask_s: float
    """The same over its last tenth."""
    stop_at: int
    """Trials after which --stop-gain 0.5 % would have stopped; 0: it would not."""
    stop_ratio: float


def run(race: Race) -> list[Result]:
    """Drive an in-memory study over a recording."""
    recording = recordings(race.landscapes)[race.recording]
    budgets = _budgets(race, recording)
    sampler = sampler_of(race, recording)
    study = optuna.create_study(sampler=sampler)
    prepare(study, recording)
    candidates = candidates_of(recording.rows)
    ratios, asks, rows, stop = [], [], [], 0
    best = np.inf
    for _ in range(ASKS_PER_MEASUREMENT * budgets[-1]):
        began = time.process_time()
        trial = study.ask(dict(candidates.distributions))
        row = candidates.index(trial.params)
        asks.append(time.process_time() - began)
        if row is None:
            study.tell(trial, state=TrialState.FAIL)
            continue
        rows.append(row)
        if tell(study, trial, recording, row):
            best = min(best, float(recording.us[row]))
        ratios.append(recording.optimum_us / best)
        if len(ratios) >= budgets[-1] or sum(asks) > MOST_SECONDS:
            break
        if not stop and isinstance(sampler, SurrogateSampler):
            began = time.process_time()
            stop = len(ratios) if sampler.expected_gain(study) < STOP_GAIN else 0
            asks[-1] += time.process_time() - began
    tenth = max(len(asks) // 10, 1)
    return [
        Result(
            recording=recording.name,
            group=recording.group,
            sampler=race.sampler,
            scenario=race.scenario,
            seed=race.seed,
            trials=budget,
            ratio=round(ratios[budget - 1], 5),
            repeats=len(rows) - len(set(rows)),
            ask_s=round(float(np.mean(asks)), 5),
            last_ask_s=round(float(np.mean(asks[-tenth:])), 5),
            stop_at=stop,
            stop_ratio=round(ratios[stop - 1], 5) if stop else 0.0,
        )
        for budget in budgets
        if budget <= len(ratios)
    ]


def prepare(study: optuna.Study, recording: Recording) -> None:
    """Say what the study is about, and queue the engines' defaults."""
    if recording.problem is not None:
        key = StudyKey(recording.problem, DEVICE, Space(recording.configs).fingerprint)
        study.set_user_attr("key", key.as_json())
    for row in recording.defaults:
        study.enqueue_trial(row)


def _budgets(race: Race, recording: Recording) -> tuple[int, ...]:
    if recording.problem is None:
        return KERNEL_BUDGETS
    return COLD_BUDGETS if race.scenario == "cold" else INFORMED_BUDGETS


def tell(study: optuna.Study, trial: Trial, recording: Recording, row: int) -> bool:
    """Tell what was recorded of the row. True where it has a time that may win."""
    us = float(recording.us[row])
    if recording.complete[row]:
        study.tell(trial, us)
        return True
    if np.isnan(us):
        trial.set_user_attr("outcome", "compile error")
        study.tell(trial, state=TrialState.FAIL)
    else:
        trial.report(us, step=0)
        study.tell(trial, state=TrialState.PRUNED)
    return False


def sampler_of(race: Race, recording: Recording) -> BaseSampler:
    """The sampler with what it knows in that scenario."""
    if race.sampler in STOCK:
        return STOCK[race.sampler](race.seed)
    if recording.problem is None:
        return SurrogateSampler(candidates_of(recording.rows), race.seed)
    known = _siblings(race, recording)
    space = Space(recording.configs)
    return TransferSampler(
        space,
        race.seed,
        history=(lambda _: known) if known else None,
        prior_us=_guess(race, space),
    )


def _siblings(race: Race, recording: Recording) -> list[Sibling]:
    wants_same = race.scenario.startswith("same")
    if not wants_same and race.scenario not in ("other", "both"):
        return []
    others = [r for r in recordings(race.landscapes).values() if r.problem and r is not recording]
    chosen = [r for r in others if (r.group == recording.group) == wants_same]
    return [_sibling(r, race.seed, 60 if race.scenario == "same60" else 0) for r in chosen]


def _sibling(recording: Recording, seed: int, count: int) -> Sibling:
    rows = np.flatnonzero(recording.complete)
    if count:
        rows = np.random.default_rng(seed).choice(rows, count, replace=False)
    configs = recording.configs
    assert recording.problem is not None
    return Sibling(
        recording.problem, tuple(configs[row] for row in rows), tuple(recording.us[rows].tolist())
    )


def _guess(race: Race, space: Space) -> tuple[float, ...] | None:
    """Return what is given as a guess of times; None: the sampler makes its own."""
    if race.scenario not in ("static", "both", "wrong"):
        return None
    problem = recordings(race.landscapes)[race.recording].problem
    assert problem is not None
    rows = [routed_rows(problem, instance, 0) for instance in range(ROUTINGS)]
    times = model_us(problem, space.configs, find_spec(DEVICE.name), rows)
    guess = times.mean(axis=0)
    return tuple((1 / guess if race.scenario == "wrong" else guess).tolist())


@cache
def _quiet() -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)


def quietly(race: Race) -> list[Result]:
    """``run`` without Optuna's log."""
    _quiet()
    return run(race)


def races(args: argparse.Namespace) -> Iterator[Race]:
    """Every combination that makes sense: other scenarios than cold are the surrogate's."""
    for name, recording in recordings(args.landscapes).items():
        if args.only and not any(word in name for word in args.only):
            continue
        for sampler in args.samplers:
            informed = recording.problem is not None and sampler == "surrogate"
            for scenario in args.scenarios if informed else ("cold",):
                for seed in range(args.seeds):
                    yield Race(args.landscapes, name, sampler, scenario, seed)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--landscapes", type=Path, required=True, help="folder of recordings")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--samplers", nargs="+", default=[*STOCK, "surrogate"],
                        choices=[*STOCK, "surrogate"])  # fmt: skip
    parser.add_argument("--scenarios", nargs="+", default=list(SCENARIOS), choices=SCENARIOS)
    parser.add_argument("--only", nargs="*", help="recordings whose name contains one of these")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--out", type=Path, default=HERE)
    return parser


def run_all(path: Path, entries: Sequence[Race], jobs: int) -> None:
    """Append the results of each race to ``path`` as it ends."""
    is_new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file, ProcessPoolExecutor(jobs) as pool:
        writer = csv.DictWriter(file, [field.name for field in fields(Result)])
        if is_new:
            writer.writeheader()
        started = [pool.submit(quietly, entry) for entry in entries]
        for done, future in enumerate(as_completed(started), start=1):
            writer.writerows(asdict(result) for result in future.result())
            file.flush()
            print(f"\r{done}/{len(entries)} runs", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)


def write(path: Path, results: Sequence[Result]) -> None:
    """Replace results.csv; only when all of it is written."""
    part = path.with_suffix(".part")
    with part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Result)])
        writer.writeheader()
        writer.writerows(asdict(result) for result in results)
    part.replace(path)


def _order(result: Result) -> tuple[str, str, str, str, int, int]:
    names = (result.group, result.recording, result.sampler, result.scenario)
    return (*names, result.seed, result.trials)


def read(path: Path) -> list[Result]:
    """Inverse of ``write``; nothing where there is no file."""
    if not path.exists():
        return []
    kinds = {"str": str, "int": int, "float": float}
    types = {field.name: kinds[str(field.type)] for field in fields(Result)}
    with path.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [Result(**{name: kind(row[name]) for name, kind in types.items()}) for row in rows]


def main() -> int:
    args = _parser().parse_args()
    path = args.out / "results.csv"
    ready = {(r.recording, r.sampler, r.scenario, r.seed) for r in read(path)}
    entries = [r for r in races(args) if (r.recording, r.sampler, r.scenario, r.seed) not in ready]
    run_all(path, entries, args.jobs)
    every = sorted(read(path), key=_order)
    write(path, every)
    print_tables(every)
    plot(every, args.out / "race.png")
    return 0


if __name__ == "__main__":
    sys.exit(main())
