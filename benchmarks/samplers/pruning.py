"""Savings of pruning within a trial, and its cost: searches replayed from raw samples.

    python benchmarks/samplers/pruning.py --landscapes benchmarks/landscapes/sglang --seeds 20

Each search is run with each rule, from the same seed: the same noise, the same first trials. A
trial's samples are resampled from the recording (``replay``), so a search sees other noise in
each seed. Rows go to pruning.csv as they come; run again, only what lacks is run. The table:

    samples  taken by the search, mean; without pruning, ten for each config (two where the
             recording itself stopped)
    winner   optimum over the recorded mean of the config with the best told mean: mean, worst
"""

from __future__ import annotations

import argparse
import csv
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cache
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import optuna
from optuna.samplers import RandomSampler
from recordings import as_routed
from scipy.stats import wilcoxon

from autotune.backends.replay.measurer import ReplayMeasurer
from autotune.backends.replay.recording_format import Recording, read_recording
from autotune.engines import ENGINES
from autotune.spec.config import Config
from autotune.spec.problem import KernelMode, Problem
from autotune.studies.key import StudyKey
from autotune.studies.outcome import Outcome
from autotune.studies.pairs import completed_as_asked
from autotune.studies.search.pruning import Row, Stop, stop_for
from autotune.studies.search.surrogate.sampler import TransferSampler
from autotune.studies.search.unseen_sampler import UnseenSampler
from autotune.studies.space import Space
from autotune.studies.storage.protocol import Asked
from autotune.studies.storage.transactions import transactions_of, trial_id_of
from autotune.studies.trial_io import enqueue
from autotune.studies.trial_record import distributions, ending, measured

HERE = Path(__file__).parent
SAMPLERS = ("random", "surrogate")


class SignedRank(Stop):
    """Optuna's WilcoxonPruner with its defaults (0.1, 2 startup steps) on the same seam."""

    def why(self, rows: Sequence[Row]) -> str:
        """See ``Stop``."""
        if hopeless := Stop(self.best, is_paired=False).why(rows):
            return hopeless
        differences = [sum(a) - sum(b) for a, b in zip(rows, self.best, strict=False)]
        if len(differences) < 2 or not any(differences):
            return ""
        p = wilcoxon(differences, alternative="greater", zero_method="zsplit").pvalue
        return "signed rank" if p < 0.1 and np.mean(differences) > 0 else ""


def _hopeless(stop: Stop) -> Stop:
    return Stop(stop.best, is_paired=False)


RULES: dict[str, Callable[[Stop], Stop]] = {
    "hopeless": _hopeless,
    "paired": lambda stop: stop,
    "wilcoxon": lambda stop: SignedRank(stop.best),
}


@dataclass(frozen=True, slots=True)
class Search:
    """One search. The rule names how trials are stopped early."""

    file: str
    tokens: int
    sampler: str
    rule: str
    seed: int
    trials: int


@dataclass(frozen=True, slots=True)
class Result(Search):
    """A row of pruning.csv."""

    samples: int
    pruned: int
    ratio: float
    """Optimum over the recorded mean of the winner."""


def run(search: Search, folder: Path) -> Result:
    """Drive an in-memory study over a landscape."""
    path = folder / f"{search.file}.npz"
    measurer = ReplayMeasurer(path, seed=search.seed + 1)
    problem = _problems(path)[search.tokens]
    space = measurer.space(problem)
    assert isinstance(space, Space)
    key = StudyKey(as_routed(problem), measurer.device, space.fingerprint)
    inner = RandomSampler(seed=search.seed)
    is_random = search.sampler == "random"
    sampler = (
        UnseenSampler(space, inner, search.seed)
        if is_random
        else TransferSampler(space, search.seed)
    )
    study = optuna.create_study(sampler=sampler)
    study.set_user_attr("key", key.as_json())
    rivals = [
        completed_as_asked(problem, measurer.device, e.default_config(problem, measurer.device))
        for e in ENGINES.values()
    ]
    enqueue(study, space, [(config, "default") for config in rivals])
    samples = pruned = 0
    for _ in range(search.trials):
        trial = study.ask(dict(distributions(space)))
        asked = Asked(trial_id_of(trial), trial.number, Config.from_keys(trial.params))
        stop = stop_for(measured(study.get_trials(deepcopy=False)))
        rule = None if stop is None or asked.config in rivals else RULES[search.rule](stop)
        result = measurer.measure(problem, asked.config, stop=rule)
        transactions_of(study).finish([ending(asked, result, None)])
        taken = result.measurement.samples_us if result.measurement else ()
        samples += len(taken)
        pruned += result.outcome.value == "pruned"
    truth = _truth(path, search.tokens)
    complete = [entry for entry in measured(study.get_trials(deepcopy=False)) if entry.complete]
    winner = min(complete, key=lambda entry: entry.geomean_us).config
    ratio = min(truth.values()) / truth[str(winner)]
    return Result(**asdict(search), samples=samples, pruned=pruned, ratio=round(ratio, 5))


@cache
def _truth(path: Path, tokens: int) -> dict[str, float]:
    """Config → geometric mean of what was recorded, where the recording is whole."""
    results = {key.problem: found for key, found in _recording(path).studies.items()}
    whole = {c: r for c, r in results[_problems(path)[tokens]].items() if r.outcome is Outcome.OK}
    return {str(c): r.measurement.geomean_us for c, r in whole.items() if r.measurement}


@cache
def _recording(path: Path) -> Recording:
    return read_recording(path)


def _problems(path: Path) -> dict[int, Problem]:
    """The fused kernel's, by batch size."""
    problems = (key.problem for key in _recording(path).studies)
    return {p.tokens: p for p in problems if p.kernel is KernelMode.FUSED}


def searches(folder: Path, args: argparse.Namespace) -> Iterator[Search]:
    """Seeds last: a run that is cut short has every landscape as often."""
    for seed in range(args.seeds):
        for path in sorted(folder.glob("*.npz"), reverse=True):
            for tokens in sorted(_problems(path)):
                for rule in args.rules:
                    yield Search(path.stem, tokens, args.sampler, rule, seed, args.trials)


def print_table(rows: Sequence[Result]) -> None:
    """One line a sampler and rule, over the searches that every rule has."""
    print(f"{'sampler':10} {'trials':>6} {'rule':9} {'runs':>5} {'samples':>8} {'pruned':>7} "
          f"{'winner':>7} {'worst landscape':>16} {'worst run':>10}")  # fmt: skip
    for sampler, trials in sorted({(row.sampler, row.trials) for row in rows}):
        of = {
            rule: {(r.file, r.tokens, r.seed): r for r in rows
                   if (r.sampler, r.trials, r.rule) == (sampler, trials, rule)}
            for rule in RULES
        }  # fmt: skip
        present = [found.keys() for found in of.values() if found]
        common = set.intersection(*map(set, present))
        for rule, found in of.items():
            if not found:
                continue
            chosen = [found[key] for key in sorted(common)]
            by_place: dict[tuple[str, int], list[float]] = {}
            for row in chosen:
                by_place.setdefault((row.file, row.tokens), []).append(row.ratio)
            worst = min(np.mean(ratios) for ratios in by_place.values())
            samples = np.mean([row.samples for row in chosen])
            pruned = np.mean([row.pruned for row in chosen])
            ratios = [row.ratio for row in chosen]
            print(f"{sampler:10} {trials:6} {rule:9} {len(chosen):5} {samples:8.1f} {pruned:7.1f} "
                  f"{np.mean(ratios):7.4f} {worst:16.4f} {min(ratios):10.4f}")  # fmt: skip


def _stored(path: Path) -> list[Result]:
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return [
            Result(
                row["file"], int(row["tokens"]), row["sampler"], row["rule"], int(row["seed"]),
                int(row["trials"]), int(row["samples"]), int(row["pruned"]), float(row["ratio"]),
            )
            for row in csv.DictReader(file)
        ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--landscapes", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--trials", type=int, default=60)
    parser.add_argument("--sampler", choices=SAMPLERS, default="surrogate")
    parser.add_argument("--rules", nargs="+", choices=list(RULES), default=list(RULES))
    parser.add_argument("--output", type=Path, default=HERE / "pruning.csv")
    args = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    rows = _stored(args.output)
    names = [field.name for field in fields(Search)]
    known = {tuple(getattr(row, name) for name in names) for row in rows}
    with args.output.open("a", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Result)])
        if not rows:
            writer.writeheader()
        for search in searches(args.landscapes, args):
            if tuple(asdict(search).values()) not in known:
                rows.append(run(search, args.landscapes))
                writer.writerow(asdict(rows[-1]))
                file.flush()
    print_table(rows)


if __name__ == "__main__":
    main()
