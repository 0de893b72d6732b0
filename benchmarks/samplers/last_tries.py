"""Are the last tries of a study worth it: the winner's other GROUP_SIZE_M, before it ends?

    python benchmarks/samplers/last_tries.py --seeds 10

On our recordings of an H200 (../landscapes) a study is searched until its sampler ends it
(``--stop-gain 0.005``). From there

    nothing    it ends
    groups     the best config's other GROUP_SIZE_M are measured; the sampler may go on then, and
               end again
    sampler    the sampler proposes as many trials more as "groups" took

Each row is a way and what the sampler knows (see race.py): measurements, best/optimum in the mean
and at the worst, and how many studies are within 0.1 and 0.5 % of the optimum.
"""

from __future__ import annotations

import argparse
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from race import HERE, STOP_GAIN, Race, prepare, sampler_of, tell  # one BLAS thread: before NumPy

# isort: split
import numpy as np
import optuna
from recordings import Recording, recordings

from autotune.spec.config import Config
from autotune.studies.search.surrogate.candidates import candidates_of
from autotune.studies.search.surrogate.sampler import SurrogateSampler
from autotune.studies.space import Space, regrouped

LANDSCAPES = HERE.parent / "landscapes"
MOST = 60
"""Measurements, as ``--trials`` has it by default. A search that comes so far is over."""
SCENARIOS = ("static", "cold", "same")
Reached = tuple[int, float]
"""Measurements, and optimum over the best time by then."""


@dataclass(frozen=True)
class Ends:
    """The ends of one search, in each way."""

    scenario: str
    nothing: Reached
    groups: Reached
    sampler: Reached


class Search:
    """One study over a recording."""

    def __init__(self, race: Race) -> None:
        self.recording: Recording = recordings(race.landscapes)[race.recording]
        sampler = sampler_of(race, self.recording)
        assert isinstance(sampler, SurrogateSampler)
        self._sampler = sampler
        self._study = optuna.create_study(sampler=sampler)
        prepare(self._study, self.recording)
        self._candidates = candidates_of(self.recording.rows)
        self._best = np.inf
        self.best: Config | None = None
        self.tried: set[Config] = set()

    @property
    def reached(self) -> Reached:
        return len(self.tried), self.recording.optimum_us / self._best

    def ask(self) -> None:
        """Measure what is queued, or what the sampler proposes."""
        trial = self._study.ask(dict(self._candidates.distributions))
        row = self._candidates.index(trial.params)
        assert row is not None
        config = self.recording.configs[row]
        self.tried.add(config)
        us = float(self.recording.us[row])
        if tell(self._study, trial, self.recording, row) and us < self._best:
            self._best, self.best = us, config

    def until_stopped(self) -> None:
        while len(self.tried) < MOST and self._sampler.expected_gain(self._study) >= STOP_GAIN:
            self.ask()

    def try_groups(self) -> bool:
        """False where the best's are known, or there is no room for them."""
        assert self.best is not None
        space = Space(self.recording.configs)
        among = [c for c in regrouped(self.best, space) if c in space and c not in self.tried]
        among = among[: MOST - len(self.tried)]
        for config in among:
            self._study.enqueue_trial(config.as_keys())
        for _ in among:
            self.ask()
        return bool(among)


def run(race: Race) -> Ends:
    """The same search twice: a seed decides all of it."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    search = Search(race)
    search.until_stopped()
    nothing = search.reached
    while search.try_groups():
        search.until_stopped()
    groups = search.reached
    other = Search(race)
    other.until_stopped()
    while len(other.tried) < groups[0]:
        other.ask()
    return Ends(race.scenario, nothing, groups, other.reached)


def print_table(ends: list[Ends]) -> None:
    print("| knows | then | measurements | mean | worst | within 0.1 % | within 0.5 % |")
    print("|---" * 7 + "|")
    for scenario, way in product(SCENARIOS, ("nothing", "groups", "sampler")):
        found = [getattr(end, way) for end in ends if end.scenario == scenario]
        if not found:
            continue
        counts, ratios = np.array(found).T
        within = [f"{np.mean(ratios >= 1 / (1 + share)):.1%}" for share in (0.001, 0.005)]
        print(f"| {scenario} | {way} | {counts.mean():.1f} | {ratios.mean():.4f} | "
              f"{ratios.min():.3f} | {within[0]} | {within[1]} |")  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--landscapes", type=Path, default=LANDSCAPES)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--scenarios", nargs="+", default=SCENARIOS, choices=SCENARIOS)
    parser.add_argument("--only", nargs="*", default=[""], help="recordings that contain a word")
    parser.add_argument("--jobs", type=int)
    args = parser.parse_args()
    races = [
        Race(args.landscapes, name, "surrogate", scenario, seed)
        for name in recordings(args.landscapes)
        if any(word in name for word in args.only)
        for scenario in args.scenarios
        for seed in range(args.seeds)
    ]
    with ProcessPoolExecutor(args.jobs) as pool:
        print_table(list(pool.map(run, races)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
