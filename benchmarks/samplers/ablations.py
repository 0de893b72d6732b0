"""Does a constant of the sampler matter? Races with other values of it, on seeds of their own.

    python benchmarks/samplers/ablations.py --landscapes benchmarks/landscapes/sglang \\
        --only convolution --seeds 100 200 --variants none model._WIDE=2 hyperparameters._LENGTH=0.5

A variant is MODULE.NAME=NUMBER, of the modules in autotune/studies/search/surrogate; several are
joined by a comma. Prints best/optimum: mean, standard error and the worst seed, and appends each
run to ablations.csv; runs that it has are not run again. Constants are chosen on seeds from 100
on; the race itself uses those below.
"""

from __future__ import annotations

import argparse
import csv
import importlib
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from race import HERE, Race, quietly  # sets one BLAS thread: before NumPy

# isort: split
import numpy as np
from recordings import recordings

NONE = "none"
FIELDS = ("variant", "recording", "seed", "trials", "ratio", "stop_at", "stop_ratio")


@dataclass(frozen=True, slots=True)
class Variant:
    """One race with other constants."""

    name: str
    race: Race

    def rows(self) -> list[list[object]]:
        """Run the race. Returns rows in the order of ``FIELDS``."""
        with ExitStack() as stack:
            for change in self.name.split(",") if self.name != NONE else ():
                stack.enter_context(_changed(change))
            results = quietly(self.race)
        named = [self.name, self.race.recording, self.race.seed]
        return [[*named, r.trials, r.ratio, r.stop_at, r.stop_ratio] for r in results]


@contextmanager
def _changed(change: str) -> Iterator[None]:
    """A constant has another value. Raises AttributeError where there is none of that name."""
    path, _, value = change.partition("=")
    module_name, _, name = path.partition(".")
    module = importlib.import_module(f"autotune.studies.search.surrogate.{module_name}")
    before = getattr(module, name)
    setattr(module, name, type(before)(float(value)))
    try:
        yield
    finally:
        setattr(module, name, before)


def print_table(rows: Sequence[dict[str, str]]) -> None:
    """Print ratios by landscape, variant and trials."""
    print("| landscape | variant | seeds | at: mean ± standard error (worst) | stops |")
    print("|---" * 5 + "|")
    for recording, name in dict.fromkeys((r["recording"], r["variant"]) for r in rows):
        mine = [r for r in rows if (r["recording"], r["variant"]) == (recording, name)]
        trials = sorted({int(r["trials"]) for r in mine})
        ratios = {t: [float(r["ratio"]) for r in mine if int(r["trials"]) == t] for t in trials}
        cells = "; ".join(
            f"{t}: {np.mean(v):.4f} ± {np.std(v) / np.sqrt(len(v)):.4f} ({min(v):.3f})"
            for t, v in ratios.items()
        )
        last = [r for r in mine if int(r["trials"]) == trials[-1]]
        stopped = [r for r in last if int(r["stop_at"])]
        stops = "–"
        if stopped:
            at, with_ = (np.mean([float(r[f]) for r in stopped]) for f in FIELDS[-2:])
            stops = f"{len(stopped)} after {at:.0f} with {with_:.3f}"
        print(f"| {recording} | {name} | {len(last)} | {cells} | {stops} |")


def print_means(rows: Sequence[Mapping[str, str]]) -> None:
    """Print the mean of a variant over its recordings, and its standard error, from how seeds
    deviate on each."""
    print("\n| variant | kernels | runs | at: mean ± standard error |")
    print("|---" * 4 + "|")
    for name in dict.fromkeys(r["variant"] for r in rows):
        mine = [r for r in rows if r["variant"] == name]
        kernels = dict.fromkeys(r["recording"] for r in mine)
        budgets = sorted({int(r["trials"]) for r in mine})
        cells = []
        for trials in budgets:
            ratios = [
                np.array([float(r["ratio"]) for r in mine
                          if (r["recording"], int(r["trials"])) == (kernel, trials)])
                for kernel in kernels
            ]  # fmt: skip
            error = np.sqrt(sum(r.var() / len(r) for r in ratios)) / len(ratios)
            cells.append(f"{trials}: {np.mean([r.mean() for r in ratios]):.3f} ± {error:.3f}")
        runs = len(mine) // len(budgets)
        print(f"| {name} | {len(kernels)} | {runs} | {'; '.join(cells)} |")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--landscapes", type=Path, required=True, help="folder of recordings")
    parser.add_argument("--only", nargs="*", help="recordings whose name contains one of these")
    parser.add_argument("--variants", nargs="+", default=[NONE])
    parser.add_argument("--seeds", nargs=2, type=int, default=(100, 120), metavar=("FROM", "TO"))
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--out", type=Path, default=HERE)
    args = parser.parse_args()
    path = args.out / "ablations.csv"
    ready = {(r["variant"], r["recording"], int(r["seed"])) for r in _read(path)}
    names = [n for n in recordings(args.landscapes)
             if not args.only or any(word in n for word in args.only)]  # fmt: skip
    entries = [
        Variant(variant, Race(args.landscapes, name, "surrogate", "cold", seed))
        for variant in args.variants
        for name in names
        for seed in range(*args.seeds)
        if (variant, name, seed) not in ready
    ]
    is_new = not path.exists()
    with ProcessPoolExecutor(args.jobs) as pool, path.open("a", newline="") as file:
        writer = csv.writer(file)
        if is_new:
            writer.writerow(FIELDS)
        for future in as_completed([pool.submit(Variant.rows, entry) for entry in entries]):
            writer.writerows(future.result())
            file.flush()
    rows = [r for r in _read(path) if r["recording"] in names]
    print_table(sorted(rows, key=lambda r: (r["recording"], r["variant"])))
    print_means(rows)
    return 0


def _read(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


if __name__ == "__main__":
    sys.exit(main())
