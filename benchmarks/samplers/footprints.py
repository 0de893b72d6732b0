"""Are configs that spill, or that are alone on an SM, slow? And does it help to know?

    python benchmarks/samplers/footprints.py --seeds 4

On our recordings of an H200 (../landscapes), which keep registers, spills and shared memory. The
first table holds time over the best one: the least and the median of each kind, and in brackets how
many there are. The second searches each batch size cold, both engines' defaults first:

    nothing   the sampler knows of no footprint
    spills    of every config, but only heavy spills count
    all       of every config: the most that compiling ahead could tell
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from race import HERE  # sets one BLAS thread: before NumPy

# isort: split
import numpy as np
import optuna
from numpy.typing import NDArray

from autotune.backends.replay.recording_format import read_recording
from autotune.engines import ENGINES
from autotune.spec.arrays import Floats
from autotune.spec.config import Config
from autotune.spec.occupancy import Footprint, blocks_per_sm
from autotune.studies.key import StudyKey
from autotune.studies.search.surrogate import acquisition
from autotune.studies.search.surrogate.candidates import candidates_of
from autotune.studies.search.surrogate.sampler import TransferSampler
from autotune.studies.space import Space

AT = (8, 15, 30)
_WHOLE = 1500
"""Recorded configs from which a batch size takes part in the search."""
VARIANTS = ("nothing", "spills", "all")
KINDS: Mapping[str, Callable[[Footprint], bool]] = {
    "no spills, 2 blocks and more": lambda f: not f.spill_bytes and (f.blocks_per_sm or 2) > 1,
    "no spills, 1 block": lambda f: not f.spill_bytes and f.blocks_per_sm == 1,
    "spills 1 to 64 B": lambda f: 0 < f.spill_bytes <= 64,
    "65 to 255 B": lambda f: 64 < f.spill_bytes < acquisition.HEAVY_SPILL_BYTES,
    "256 B and more": lambda f: f.spill_bytes >= acquisition.HEAVY_SPILL_BYTES,
}


@dataclass(frozen=True)
class Known:
    """A recorded batch size."""

    name: str
    key: StudyKey
    configs: tuple[Config, ...]
    us: Floats
    complete: NDArray[np.bool_]
    footprints: tuple[Footprint, ...]


def recorded() -> list[Known]:
    """Every batch size of every recording of fused kernels."""
    found = []
    for path in sorted((HERE.parent / "landscapes").glob("*.npz")):
        for key, results in read_recording(path).studies.items():
            kept = [
                (config, result, result.measurement, result.resources)
                for config, result in results.items()
                if isinstance(config, Config) and result.measurement and result.resources
            ]
            if not kept:
                continue
            found.append(
                Known(
                    f"{path.stem.split('_')[0]} M={key.problem.tokens}",
                    key,
                    tuple(config for config, *_ in kept),
                    np.array([measurement.geomean_us for _, _, measurement, _ in kept]),
                    np.array([result.outcome.value == "ok" for _, result, *_ in kept]),
                    tuple(
                        Footprint(r.spill_bytes, blocks_per_sm(r, c.num_warps, key.device))
                        for c, _, _, r in kept
                    ),
                )
            )
    return found


def print_kinds(known: list[Known]) -> None:
    print("| | " + " | ".join(KINDS) + " |\n" + "|---" * (len(KINDS) + 1) + "|")
    for each in known:
        slower = each.us / each.us.min()
        cells = []
        for is_kind in KINDS.values():
            these = slower[[is_kind(footprint) for footprint in each.footprints]]
            if len(these):
                cells.append(f"{these.min():.2f}, {np.median(these):.2f} ({len(these)})")
            else:
                cells.append("")
        print(f"| {each.name} | {' | '.join(cells)} |")


def search(known: Known, variant: str, seed: int) -> tuple[list[float], int, int]:
    """best/optimum at each of ``AT``, and how many heavy spills and lone blocks were measured."""
    space = Space(known.configs)
    of_config = dict(zip(known.configs, known.footprints, strict=True))
    told = {
        row: Footprint(f.spill_bytes, f.blocks_per_sm if variant == "all" else None)
        for row, f in enumerate(of_config[config] for config in space.configs)
    }
    footprints = None if variant == "nothing" else lambda: told
    sampler = TransferSampler(space, seed, footprints=footprints)
    study = optuna.create_study(sampler=sampler)
    study.set_user_attr("key", known.key.as_json())
    candidates = candidates_of([config.as_keys() for config in known.configs])
    engines = ENGINES.values()
    defaults = [e.default_config(known.key.problem, known.key.device) for e in engines]
    for config in dict.fromkeys(defaults):
        if config in space:
            study.enqueue_trial(config.as_keys())
    rows: list[int] = []
    for _ in range(AT[-1]):
        trial = study.ask(dict(candidates.distributions))
        row = candidates.index(trial.params)
        assert row is not None
        rows.append(row)
        if known.complete[row]:
            study.tell(trial, float(known.us[row]))
        else:
            trial.report(float(known.us[row]), 0)
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
    taken = [known.footprints[row] for row in rows]
    ratios = [float(known.us.min() / known.us[rows[:count]].min()) for count in AT]
    heavy = sum(f.spill_bytes >= acquisition.HEAVY_SPILL_BYTES for f in taken)
    return ratios, heavy, sum(f.blocks_per_sm == 1 for f in taken)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--names", nargs="*", help="batch sizes to search; all by default")
    args = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    known = recorded()
    print_kinds(known)
    whole = [k for k in known if len(k.configs) >= _WHOLE and k.name in (args.names or [k.name])]
    heads = " | ".join(f"at {count}" for count in AT)
    print(f"\n| knows | {heads} | worst | heavy spills | lone blocks |")
    print("|---" * (len(AT) + 4) + "|")
    for variant in VARIANTS:
        ends = [search(each, variant, seed) for each in whole for seed in range(args.seeds)]
        ratios = np.array([ratios for ratios, *_ in ends])
        cells = [*(f"{mean:.4f}" for mean in ratios.mean(axis=0)), f"{ratios[:, -1].min():.3f}"]
        cells += [f"{np.mean([end[place] for end in ends]):.2f}" for place in (1, 2)]
        print(f"| {variant} | {' | '.join(cells)} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
