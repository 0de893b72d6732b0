"""Seconds until a whole model is tuned: one GPU and 16 compile cores, simulated on recorded times.

    python benchmarks/samplers/model_seconds.py --landscapes benchmarks/landscapes/sglang --seeds 4

A config is compiled once, for every batch size, in 0.3 to 4 s of a core; measuring it on one batch
size takes 5 to 40 ms of the GPU. Both are drawn log-uniformly for each config, and proposals are
taken to cost nothing. The 18 batch sizes are interpolated between the recorded ones, log time over
log batch size; the outermost recording stands for what lies beyond it.

    study     one batch size after the other, each until --trials or --stop-gain ends it
    abreast   all batch sizes at the same time: the next compile is for the largest expected gain
    shared    as abreast, and while the GPU would wait it measures what is compiled already
              wherever the largest gain is expected
"""

from __future__ import annotations

import argparse
import csv
import heapq
import itertools
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from race import HERE  # sets one BLAS thread: before NumPy

# isort: split
import numpy as np
import optuna
from optuna.trial import Trial
from orders import next_compiled, next_study
from recordings import DEVICE, Recording, recordings

from autotune.spec.arrays import Floats
from autotune.spec.config import Config
from autotune.spec.problem import Problem
from autotune.studies.key import StudyKey
from autotune.studies.search.history import FEWEST, Sibling
from autotune.studies.search.surrogate.candidates import candidates_of
from autotune.studies.search.surrogate.sampler import TransferSampler
from autotune.studies.space import Space

ORDERS = ("study", "abreast", "shared")
BATCH_SIZES = (1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 256, 512, 1024, 1536, 2048, 3072, 4096)
SECONDS = (5, 10, 15, 20, 30, 45, 60, 90, 120, 180, 240)
CORES = 16
COMPILE_S, MEASURE_S = (0.3, 4.0), (0.005, 0.04)
LEAST_IDLE_GAIN = 0.0005
"""Expected gain below which the GPU rather waits."""


@dataclass(frozen=True, slots=True)
class Result:
    """A row of model_seconds.csv: what is reached after so many simulated seconds."""

    model: str
    order: str
    seed: int
    seconds: int
    ratio: float
    """Optimum over the best time, mean over batch sizes; one without a time counts 0."""
    worst: float
    measured: int
    compiled: int
    ended: float
    """Seconds after which this run was done."""


@dataclass(frozen=True)
class World:
    """The costs of everything. Rows of ``us`` and ``measure_s`` are batch sizes."""

    problems: tuple[Problem, ...]
    space: Space
    us: Floats
    compile_s: Floats
    measure_s: Floats
    defaults: tuple[tuple[int, ...], ...]


def world_of(known: Sequence[Recording], seed: int) -> World:
    """A model at every batch size from its recordings."""
    known = sorted(known, key=_tokens)
    shared = set.intersection(*(set(r.configs) for r in known))
    configs = tuple(config for config in known[0].configs if config in shared)
    logs = np.array([_log_us(r, configs) for r in known])
    at = np.log2([_tokens(r) for r in known])
    wanted = np.log2(BATCH_SIZES)
    us = np.exp(np.array([np.interp(wanted, at, column) for column in logs.T]).T)
    rng = np.random.default_rng(seed)
    row_of = {config: row for row, config in enumerate(configs)}
    nearest = [known[int(np.argmin(np.abs(at - size)))] for size in wanted]
    found = [[row_of.get(c) for c in _defaults(r)] for r in nearest]
    problem = known[0].problem
    assert problem is not None
    return World(
        problems=tuple(replace(problem, tokens=tokens) for tokens in BATCH_SIZES),
        space=Space(configs),
        us=us,
        compile_s=np.exp(rng.uniform(*np.log(COMPILE_S), size=len(configs))),
        measure_s=np.exp(rng.uniform(*np.log(MEASURE_S), size=us.shape)),
        defaults=tuple(tuple(row for row in rows if row is not None) for rows in found),
    )


def _tokens(recording: Recording) -> int:
    assert recording.problem is not None
    return recording.problem.tokens


def _log_us(recording: Recording, configs: Sequence[Config]) -> Floats:
    row_of = {config: row for row, config in enumerate(recording.configs)}
    logs: Floats = np.log(recording.us[[row_of[config] for config in configs]])
    return logs


def _defaults(recording: Recording) -> list[Config]:
    return [Config.from_keys(row) for row in recording.defaults]


class GainsSampler(TransferSampler):
    """The product's sampler; it also tells what measuring each candidate is expected to save."""

    def gains(self, study: optuna.Study) -> Floats:
        """[candidates] shares of the best time: 0 for taken ones and in the first design."""
        observed = self._known(study)
        unseen = self._unseen(observed)
        gains = np.zeros(len(self._candidates))
        if len(unseen) and not self._is_first_design(observed) and len(observed.measured):
            acquisition = self._acquisition(observed, unseen)
            gains[acquisition.rows] = self._surrogate.gains(observed, acquisition)
        return gains


class Tuned:
    """One batch size's study in a simulation."""

    def __init__(self, run: Run, place: int) -> None:
        world = run.world
        key = StudyKey(world.problems[place], DEVICE, world.space.fingerprint)
        self._world = world
        self._candidates = candidates_of([config.as_keys() for config in world.space.configs])
        self._sampler = GainsSampler(
            world.space, run.seed, history=lambda _: run.siblings(but=place)
        )
        self._study = optuna.create_study(sampler=self._sampler)
        self._study.set_user_attr("key", key.as_json())
        self._queued = list(world.defaults[place])
        self._expected: float | None = None
        self._gains: Floats | None = None
        self.started = 0
        """Trials that the order asked for: those that an idle GPU takes besides do not count."""
        self.us = world.us[place]
        self.rows: list[int] = []

    @property
    def expected_gain(self) -> float:
        """Share that the next trial is expected to save."""
        if self._expected is None:
            known = np.inf if self._queued else self._sampler.expected_gain(self._study)
            self._expected = known
        return self._expected

    @property
    def gains(self) -> Floats:
        """Shares that configs are expected to save; 0 until the first design is measured."""
        if self._gains is None:
            self._gains = self._sampler.gains(self._study)
        return self._gains

    def ask(self) -> tuple[Trial, int]:
        """The next trial and its row."""
        self.started += 1
        trial = self.take(self._queued.pop(0)) if self._queued else self._ask()
        row = self._candidates.index(trial.params)
        assert row is not None
        return trial, row

    def take(self, row: int) -> Trial:
        """A trial of that row."""
        self._study.enqueue_trial(dict(self._candidates.rows[row]))
        return self._ask()

    def tell(self, trial: Trial, row: int) -> None:
        """Its recorded time."""
        self._study.tell(trial, float(self.us[row]))
        self.rows.append(row)
        self._expected = self._gains = None

    def _ask(self) -> Trial:
        self._expected = self._gains = None
        return self._study.ask(dict(self._candidates.distributions))


class Run:
    """One simulation: cores compile, a GPU measures, and time passes with what the GPU does."""

    def __init__(self, world: World, order: str, seed: int, trials: int, stop_gain: float) -> None:
        self.world, self.order, self.seed = world, order, seed
        self._trials, self._stop_gain = trials, stop_gain
        self._now = 0.0
        self._cores = [0.0] * CORES
        self._ready_at: dict[int, float] = {}
        self._queue: list[tuple[float, int, int, int, Trial]] = []
        self._tickets = itertools.count()
        self.studies = [Tuned(self, place) for place in range(len(world.problems))]
        self.history: list[tuple[float, list[float], int, int]] = []
        """(seconds, optimum over best of each batch size, measured, compiled) as they change."""

    def siblings(self, but: int) -> list[Sibling]:
        """Return the measurements of the other batch sizes."""
        known = [(p, s) for p, s in enumerate(self.studies) if len(s.rows) >= FEWEST and p != but]
        configs = self.world.space.configs
        return [
            Sibling(
                self.world.problems[place],
                tuple(configs[row] for row in study.rows),
                tuple(study.us[study.rows].tolist()),
            )
            for place, study in known
        ]

    def go(self) -> float:
        """Until nothing is worth it. Returns the seconds that it took."""
        while True:
            self._fill_cores()
            if self._queue and self._queue[0][0] <= self._now:
                _, _, place, row, trial = heapq.heappop(self._queue)
                self._measure(place, row, trial)
            elif (found := self._idle_work()) is not None:
                place, row = found
                self._measure(place, row, self.studies[place].take(row))
            elif self._queue:
                self._now = max(self._now, min(self._queue[0][0], *self._cores_from_now()))
            else:
                return self._now

    def _cores_from_now(self) -> list[float]:
        later = [free for free in self._cores if free > self._now]
        return later or [np.inf]

    def _fill_cores(self) -> None:
        while len(self._queue) < 2 * CORES and min(self._cores) <= self._now:
            place = self._next_place()
            if place is None:
                return
            trial, row = self.studies[place].ask()
            if row not in self._ready_at:
                free = heapq.heappop(self._cores)
                ready = max(free, self._now) + float(self.world.compile_s[row])
                self._ready_at[row] = ready
                heapq.heappush(self._cores, ready)
            at = self._ready_at[row]
            heapq.heappush(self._queue, (at, next(self._tickets), place, row, trial))

    def _next_place(self) -> int | None:
        if self.order != "study":
            open_ = [s.started < self._trials for s in self.studies]
            gains = [
                s.expected_gain if o else 0.0 for s, o in zip(self.studies, open_, strict=True)
            ]
            return next_study(gains, [s.started for s in self.studies], self._stop_gain)
        for place, study in enumerate(self.studies):
            if study.started < self._trials and study.expected_gain >= self._stop_gain:
                return place
        return None

    def _idle_work(self) -> tuple[int, int] | None:
        if self.order != "shared":
            return None
        compiled = np.array([r for r, at in self._ready_at.items() if at <= self._now], dtype=int)
        return next_compiled([study.gains for study in self.studies], compiled, LEAST_IDLE_GAIN)

    def _measure(self, place: int, row: int, trial: Trial) -> None:
        self._now += float(self.world.measure_s[place, row])
        self.studies[place].tell(trial, row)
        ratios = [float(s.us.min() / s.us[s.rows].min()) if s.rows else 0.0 for s in self.studies]
        measured = sum(len(study.rows) for study in self.studies)
        self.history.append((self._now, ratios, measured, len(self._ready_at)))


@dataclass(frozen=True, slots=True)
class Task:
    """One simulation, as a process is asked for it."""

    landscapes: Path
    model: str
    order: str
    seed: int
    trials: int
    stop_gain: float

    def results(self) -> list[Result]:
        """Return the ratio reached at each of ``SECONDS``."""
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        known = [r for r in recordings(self.landscapes).values() if r.group == self.model]
        run = Run(world_of(known, self.seed), self.order, self.seed, self.trials, self.stop_gain)
        ended = run.go()
        rows = []
        for seconds in SECONDS:
            before = [entry for entry in run.history if entry[0] <= seconds]
            _, ratios, measured, compiled = before[-1] if before else (0.0, [0.0], 0, 0)
            reached = round(float(np.mean(ratios)), 5), round(min(ratios), 5)
            rows.append(Result(self.model, self.order, self.seed, seconds, *reached, measured,
                               compiled, round(ended, 2)))  # fmt: skip
        return rows


def print_table(results: Sequence[Result]) -> None:
    """Print the table by model and order."""
    heads = " | ".join(f"{seconds} s" for seconds in SECONDS)
    print(f"| model, order | {heads} | compiled | measured | done after |")
    print("|---" * (len(SECONDS) + 4) + "|")
    for model, order in dict.fromkeys((r.model, r.order) for r in results):
        mine = [r for r in results if (r.model, r.order) == (model, order)]
        cells = [np.mean([r.ratio for r in mine if r.seconds == s]) for s in SECONDS]
        last = [r for r in mine if r.seconds == SECONDS[-1]]
        means = [np.mean([getattr(r, name) for r in last]) for name in ("compiled", "measured")]
        ended = np.mean([r.ended for r in last])
        print(f"| {model}, {order} | {' | '.join(f'{cell:.3f}' for cell in cells)} "
              f"| {means[0]:.0f} | {means[1]:.0f} | {ended:.0f} s |")  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--landscapes", type=Path, required=True, help="folder of recordings")
    parser.add_argument("--models", nargs="+", default=["qwen3-30b-a3b", "deepseek-v3"])
    parser.add_argument("--orders", nargs="+", default=list(ORDERS), choices=ORDERS)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--trials", type=int, default=60)
    parser.add_argument("--stop-gain", type=float, default=0.005)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--out", type=Path, default=HERE)
    args = parser.parse_args()
    tasks = [
        Task(args.landscapes, model, order, seed, args.trials, args.stop_gain)
        for model in args.models
        for order in args.orders
        for seed in range(args.seeds)
    ]
    results: list[Result] = []
    path = args.out / "model_seconds.csv"
    with ProcessPoolExecutor(args.jobs) as pool, path.open("w", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Result)])
        writer.writeheader()
        for future in as_completed([pool.submit(Task.results, task) for task in tasks]):
            rows = future.result()
            writer.writerows(asdict(row) for row in rows)
            file.flush()
            results += rows
    print_table(sorted(results, key=lambda r: (r.model, ORDERS.index(r.order), r.seed)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
