"""Do the tests of the pure rules notice a wrong rule? Mutation testing, one small change at a time.

    python benchmarks/mutation/mutate.py                          # everything: minutes on two cores
    python benchmarks/mutation/mutate.py --only space pruning     # some targets
    python benchmarks/mutation/mutate.py --limit 100 --seed 1     # a sample, the same for a seed

A mutant is a module with one comparison, constant, sign, condition or result changed
(``mutations.py``). For each, the tests named beside its module run in a forked process that has
the libraries loaded already; a test that fails, or takes ten times as long as without the change,
kills it. Prints each score (killed over all that are not equivalent) and every survivor.
``equivalent.txt`` names the mutants that behave as the module does, each with the reason.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import io
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import CodeType

import pytest
from mutations import Mutant, mutants_of

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
PRELOADED = (
    "numpy",
    "scipy.special",
    "optuna",
    "sqlalchemy",
    "threadpoolctl",
    "sklearn.tree",
    "torch",
    "triton",
)
"""Libraries that a mutant's process need not load."""
PATIENCE = 10.0
"""Times the seconds of the unchanged module after which a mutant counts as killed."""
LEAST_S = 20.0
PAIR_TESTS = (
    "test_keys_and_back",
    "test_the_space_is_a_product_for_each_block_size_m",
    "test_a_half_without_the_others_block_size_m_is_left_out",
    "test_the_best_halves_of_different_trials_go_together",
    "test_what_a_user_has_becomes_a_pair",
    "test_halves_of_any_kind",
    "test_the_smallest_sum_comes_first",
)
"""Tests of pairs but for those of samplers, which take a minute."""
_PASSED = 0
_FLAGS = ("-x", "-q", "-p", "no:cacheprovider", "--assert=plain")
"""Flags of pytest without which each mutant takes twice as long, or leaves files."""


@dataclass(frozen=True)
class Target:
    """A module of pure rules, and the tests that should notice when one is wrong."""

    module: str
    tests: tuple[str, ...]
    places: tuple[str, ...] = ()
    """Functions and classes that are pure, in a module that is not; empty for all of it."""

    @property
    def path(self) -> Path:
        """The module's file in the repository."""
        return Path(*self.module.split(".")).with_suffix(".py")

    def mutants(self) -> list[Mutant]:
        """Return every mutant, in the order of lines."""
        found = mutants_of(self.path, self.path.read_text(encoding="utf-8"))
        return [m for m in found if not self.places or m.place.startswith(self.places)]


TARGETS = {
    "paired_ratio": Target(
        "autotune.studies.selection.paired_ratio",
        ("tests/studies/selection/test_paired_ratio.py",),
    ),
    "select": Target(
        "autotune.studies.selection.select",
        ("tests/studies/selection/test_select.py",),
        places=("Winner", "select_winner", "beats", "_least_loss"),
    ),
    "finalists": Target(
        "autotune.studies.selection.finalists",
        ("tests/studies/selection/test_finalists.py", "tests/studies/selection/test_robust.py"),
    ),
    "robust": Target(
        "autotune.studies.selection.select",
        ("tests/studies/selection/test_robust.py",),
        places=("Robust", "ranked", "worst_losses", "needed_to_judge", "_whole"),
    ),
    "pruning": Target("autotune.studies.search.pruning", ("tests/studies/search/test_pruning.py",)),
    "last_tries": Target(
        "autotune.tuning.tuning_study", ("tests/tuning/test_last_tries.py",), places=("last_tries",)
    ),
    "history": Target("autotune.studies.search.history", ("tests/studies/search/test_history.py",)),
    "lifecycle": Target("autotune.studies.lifecycle", ("tests/studies/test_lifecycle.py",)),
    "round_robin": Target(
        "autotune.tuning.workers.scheduler",
        tuple(
            f"tests/tuning/workers/test_scheduler.py::{test}"
            for test in (
                "test_what_is_queued_anywhere_comes_before_any_search",
                "test_all_are_searched_round_robin",
                "test_where_the_fewest_others_work_comes_first_among_equals",
                "test_what_the_device_holds_comes_before_what_is_behind",
                "test_the_first_visits_of_several_workers_are_different_studies",
                "test_a_visit_ends_with_the_queue_that_it_came_for_or_after_some_trials",
            )
        ),
        places=("visiting_order", "Visit"),
    ),
    "space": Target("autotune.studies.space", ("tests/studies/test_space.py",)),
    "pairs": Target(
        "autotune.studies.pairs",
        tuple(f"tests/studies/test_pairs.py::{test}" for test in PAIR_TESTS),
    ),
    "limits": Target("autotune.spec.limits", ("tests/spec/test_limits.py",)),
    "occupancy": Target(
        "autotune.spec.occupancy",
        ("tests/spec/test_occupancy.py",),
        places=("fitting_blocks", "blocks_per_sm", "held_blocks"),
    ),
    "config": Target("autotune.spec.config", ("tests/spec/test_config.py",)),
    "legality": Target("autotune.engines.legality", ("tests/engines/test_legality.py",)),
}


class _MutatedLoader(SourceFileLoader):
    """Loads a module from a mutated tree."""

    mutant: Mutant

    def get_code(self, fullname: str) -> CodeType:
        tree = self.mutant.tree(Path(self.path).read_text(encoding="utf-8"))
        return compile(tree, self.path, "exec")


class _Finder(MetaPathFinder):
    """Finds the mutated module before the file on the disk is found."""

    def __init__(self, module: str, mutant: Mutant) -> None:
        self._module, self._mutant = module, mutant

    def find_spec(self, fullname: str, path: object, target: object = None) -> ModuleSpec | None:
        if fullname != self._module:
            return None
        loader = _MutatedLoader(fullname, str(ROOT / self._mutant.path))
        loader.mutant = self._mutant
        return importlib.util.spec_from_file_location(fullname, loader.path, loader=loader)


@dataclass
class _Run:
    """A mutant's process."""

    mutant: Mutant | None
    pid: int
    began: float
    limit_s: float


def main() -> int:
    args = _parser().parse_args()
    os.chdir(ROOT)
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    sys.path.insert(0, str(ROOT))
    for name in PRELOADED:
        importlib.import_module(name)
    equivalent = _equivalent()
    killed = survived = excused = 0
    began = time.monotonic()
    print(f"{'module':<50}{'mutants':>9}{'killed':>8}{'equivalent':>12}{'score':>8}")
    for target in _chosen(args.only):
        mutants = _sample(target.mutants(), args)
        usual_s = _usual_s(target)
        kept = [mutant for mutant in mutants if mutant.key not in equivalent]
        alive = [m for m, is_dead in _verdicts(target, kept, usual_s, args.jobs) if not is_dead]
        dead = len(kept) - len(alive)
        killed, survived = killed + dead, survived + len(alive)
        excused += len(mutants) - len(kept)
        print(
            f"{target.path.as_posix():<50}{len(mutants):>9}{dead:>8}{len(mutants) - len(kept):>12}"
            f"{_share(dead, len(kept)):>8}",
            *(f"\n  survived: {mutant.key}" for mutant in alive),
            flush=True,
        )
    total = killed + survived
    print(f"{'all':<50}{total + excused:>9}{killed:>8}{excused:>12}{_share(killed, total):>8}")
    print(f"{time.monotonic() - began:.0f} s, {args.jobs} at a time")
    return 0 if total and killed / total >= args.at_least else 1


def _share(killed: int, total: int) -> str:
    return f"{killed / total:.1%}" if total else "–"


def _chosen(only: Sequence[str] | None) -> Iterator[Target]:
    for name, target in TARGETS.items():
        if not only or name in only:
            yield target


def _sample(mutants: list[Mutant], args: argparse.Namespace) -> list[Mutant]:
    if not args.limit or len(mutants) <= args.limit:
        return mutants
    chosen = random.Random(args.seed).sample(mutants, args.limit)
    return sorted(chosen, key=lambda mutant: mutant.line)


def _equivalent() -> set[str]:
    """Read the mutants that are counted apart; each line is followed by its reason, indented."""
    lines = (HERE / "equivalent.txt").read_text(encoding="utf-8").splitlines()
    return {line for line in lines if line and not line.startswith((" ", "#"))}


def _usual_s(target: Target) -> float:
    """Run the tests on the unchanged module. Raises SystemExit where they fail."""
    run = _start(target, None, 600.0)
    _, status = os.waitpid(run.pid, 0)
    if os.waitstatus_to_exitcode(status) != _PASSED:
        raise SystemExit(f"tests of {target.module} fail without a mutation: {target.tests}")
    return time.monotonic() - run.began


def _verdicts(
    target: Target, mutants: Sequence[Mutant], usual_s: float, jobs: int
) -> Iterator[tuple[Mutant, bool]]:
    """Yield each mutant with whether it was killed."""
    waiting = list(reversed(mutants))
    running: list[_Run] = []
    limit_s = max(PATIENCE * usual_s, LEAST_S)
    while waiting or running:
        while waiting and len(running) < jobs:
            running.append(_start(target, waiting.pop(), limit_s))
        for run in list(running):
            pid, status = os.waitpid(run.pid, os.WNOHANG)
            if not pid and time.monotonic() - run.began < run.limit_s:
                continue
            if not pid:
                os.kill(run.pid, signal.SIGKILL)
                os.waitpid(run.pid, 0)
            running.remove(run)
            assert run.mutant is not None
            yield run.mutant, not pid or os.waitstatus_to_exitcode(status) != _PASSED
        time.sleep(0.005)


def _start(target: Target, mutant: Mutant | None, limit_s: float) -> _Run:
    began = time.monotonic()
    pid = os.fork()
    if not pid:
        os._exit(_tested(target, mutant))
    return _Run(mutant, pid, began, limit_s)


def _tested(target: Target, mutant: Mutant | None) -> int:
    """Run the tests of a target in this process. Returns pytest's exit status."""
    if mutant is not None:
        sys.meta_path.insert(0, _Finder(target.module, mutant))
    silence = io.StringIO()
    with tempfile.TemporaryDirectory() as folder, Path(os.devnull).open("w") as nothing:
        os.dup2(nothing.fileno(), 1)
        os.dup2(nothing.fileno(), 2)
        with redirect_stdout(silence), redirect_stderr(silence):
            return int(pytest.main([*_FLAGS, f"--basetemp={folder}/tests", *target.tests]))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="*", choices=list(TARGETS), help="targets; default: all")
    parser.add_argument("--limit", type=int, default=0, help="mutants of each; 0: all of them")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--at-least", type=float, default=0.9, help="score below which it fails")
    return parser


if __name__ == "__main__":
    sys.exit(main())
