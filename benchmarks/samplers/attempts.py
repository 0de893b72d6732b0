"""Would another way to choose need fewer measurements? Ways that were tried and are not in the
sampler, on its own models.

    python benchmarks/samplers/attempts.py --landscapes ../shared/landscapes \\
        --only convolution --seeds 100 116 --ways improvement "improvement, standing"

A way is a first design and a few rules that take turns. Prints best/optimum as ablations.py does
and appends each run to attempts.csv; runs that it has are not run again.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ablations import FIELDS, print_means, print_table
from race import HERE, KERNEL_BUDGETS  # sets one BLAS thread: before NumPy

# isort: split
import numpy as np
import scipy
from numpy.typing import NDArray
from recordings import Recording, recordings

from autotune.spec.arrays import Rows
from autotune.studies.search.surrogate.acquisition import Acquisition, improvement
from autotune.studies.search.surrogate.candidates import Observed, candidates_of
from autotune.studies.search.surrogate.model import Surrogate
from autotune.studies.search.surrogate.trees import fit_trees

SPREAD_AMONG = 300
ELITES, APART = 5, 1
"""Good configs whose neighbours are looked at: so many, more than so many knobs apart."""
STALE, BEST, FAR = 8, 10, 3
"""Measurements without a gain of 2 % after which a rule looks elsewhere: at so many knobs or more
from each of the so many best."""


@dataclass
class Search:
    """One run over a recording."""

    recording: Recording
    seed: int
    measured: list[int] = field(default_factory=list)
    us: list[float] = field(default_factory=list)
    failed: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.candidates = candidates_of(self.recording.rows)
        self.surrogate = Surrogate(self.candidates, None, self.seed)
        names = [k for k in self.recording.rows[0] if len({r[k] for r in self.recording.rows}) > 1]
        columns = [[row[name] for row in self.recording.rows] for name in names]
        self.levels = np.column_stack([np.unique(c, return_inverse=True)[1] for c in columns])
        """[n, knobs] which value each knob has: knobs differ or do not."""

    @property
    def taken(self) -> list[int]:
        return self.measured + self.failed

    @property
    def rng(self) -> np.random.Generator:
        return np.random.default_rng((self.seed, len(self.taken)))

    @property
    def unseen(self) -> Rows:
        free = np.ones(len(self.candidates), dtype=bool)
        free[self.taken] = False
        return np.flatnonzero(free)

    def acquisition(self) -> Acquisition:
        none = np.zeros(0, dtype=np.int64)
        measured, failed = (np.array(rows, dtype=np.int64) for rows in (self.measured, self.failed))
        complete = np.ones(len(measured), dtype=bool)
        observed = Observed(measured, np.array(self.us), complete, failed, none)
        return self.surrogate.acquisition(observed, self.unseen)

    def differing(self, rows: Rows, row: int) -> Rows:
        """Knobs in which each differs from that one."""
        count: Rows = (self.levels[rows] != self.levels[row]).sum(axis=1)
        return count

    def tell(self, row: int) -> None:
        if self.recording.complete[row]:
            self.measured.append(row)
            self.us.append(float(self.recording.us[row]))
        else:
            self.failed.append(row)


def by_improvement(search: Search) -> int:
    """Return the sampler's choice."""
    acquisition = search.acquisition()
    return int(acquisition.rows[np.argmax(acquisition.gain)])


def by_standing(search: Search) -> int:
    """Expected improvement of trees that know only which is faster than which (normal scores)."""
    rows = np.array(search.taken)
    us = np.array([*search.us, *[np.inf] * len(search.failed)])
    scores = scipy.special.ndtri((scipy.stats.rankdata(us) - 0.5) / len(us))
    columns, unseen = search.candidates.split, search.unseen
    trees = fit_trees(columns[rows], scores, int(search.rng.integers(2**31)))
    mean, deviation = trees.predict(columns[unseen])
    return int(unseen[np.argmax(improvement(scores.min() - mean, deviation))])


def near_elites(search: Search) -> int:
    """The sampler's choice among those that differ by one knob from one of the elites."""
    elites: list[int] = []
    for i in np.argsort(search.us, kind="stable"):
        row = search.measured[i]
        if len(elites) < ELITES and all(
            search.differing(np.array([row]), e)[0] > APART for e in elites
        ):
            elites.append(row)
    acquisition = search.acquisition()
    near = np.min([search.differing(acquisition.rows, e) for e in elites], axis=0) <= 1
    return _best_of(acquisition, near)


def away(search: Search) -> int:
    """The sampler's choice; when nothing gets better, among those far from the best."""
    acquisition, us = search.acquisition(), np.array(search.us)
    since = len(us) - int(np.flatnonzero(us <= 1.02 * us.min())[0])
    if since < STALE:
        return int(acquisition.rows[np.argmax(acquisition.gain)])
    best = [search.measured[i] for i in np.argsort(us)[:BEST]]
    apart = np.min([search.differing(acquisition.rows, row) for row in best], axis=0)
    return _best_of(acquisition, apart >= FAR)


def _best_of(acquisition: Acquisition, where: NDArray[np.bool_]) -> int:
    gain = np.where(where, acquisition.gain, -1) if where.any() else acquisition.gain
    return int(acquisition.rows[np.argmax(gain)])


@dataclass(frozen=True)
class Way:
    """A way to search: a first design and rules."""

    rules: tuple[Callable[[Search], int], ...]
    first: int = 8
    """Measurements of the first design."""
    by_levels: bool = False
    """The first design spreads over values of knobs, not to the ends of their ranges."""

    def next(self, search: Search) -> int:
        count = len(search.taken)
        if count < self.first or not search.measured:
            return self._farthest(search)
        return self.rules[count % len(self.rules)](search)

    def _farthest(self, search: Search) -> int:
        rng = search.rng
        among = np.sort(rng.permutation(search.unseen)[:SPREAD_AMONG])
        if not search.taken:
            return int(rng.choice(among))
        if self.by_levels:
            apart = np.array([search.differing(among, row) for row in search.taken])
            return int(among[np.argmax(apart.min(axis=0) + 1e-3 * apart.mean(axis=0))])
        unit = search.candidates.unit
        distance = np.abs(unit[among][:, None] - unit[search.taken][None]).sum(axis=2)
        return int(among[np.argmax(distance.min(axis=1))])


WAYS: Mapping[str, Way] = {
    "improvement": Way((by_improvement,)),
    "standing": Way((by_standing,)),
    "improvement, standing": Way((by_improvement, by_standing)),
    "improvement, near elites": Way((by_improvement, near_elites)),
    "improvement, away": Way((by_improvement, away)),
    "improvement, away, 16 first": Way((by_improvement, away), 16, by_levels=True),
}
"""The first is the sampler's."""


def run(recording: Recording, seed: int, name: str) -> list[list[object]]:
    """Rows in the order of ``ablations.FIELDS``; when it would stop is not asked."""
    search, rows, way = Search(recording, seed), [], WAYS[name]
    for count in range(1, KERNEL_BUDGETS[-1] + 1):
        search.tell(way.next(search))
        if count in KERNEL_BUDGETS:
            ratio = round(recording.optimum_us / min(search.us), 5) if search.us else 0.0
            rows.append([name, recording.name, seed, count, ratio, 0, 0.0])
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--landscapes", type=Path, required=True, help="folder of recordings")
    parser.add_argument("--only", nargs="*", help="recordings whose name contains one of these")
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=list(WAYS))
    parser.add_argument("--seeds", nargs=2, type=int, default=(100, 116), metavar=("FROM", "TO"))
    parser.add_argument("--out", type=Path, default=HERE)
    args = parser.parse_args()
    path = args.out / "attempts.csv"
    ready = {(r["variant"], r["recording"], int(r["seed"])) for r in _read(path)}
    entries = [
        (recording, seed, way)
        for way in args.ways
        for name, recording in recordings(args.landscapes).items()
        for seed in range(*args.seeds)
        if recording.problem is None  # without defaults and physics: only knobs are known
        and (not args.only or any(word in name for word in args.only))
        and (way, name, seed) not in ready
    ]
    is_new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        if is_new:
            writer.writerow(FIELDS)
        for entry in entries:
            writer.writerows(run(*entry))
            file.flush()
    rows = [r for r in _read(path)
            if not args.only or any(word in r["recording"] for word in args.only)]  # fmt: skip
    print_table(sorted(rows, key=lambda r: (r["recording"], r["variant"])))
    print_means(rows)
    return 0


def _read(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


if __name__ == "__main__":
    sys.exit(main())
