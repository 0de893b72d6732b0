"""Pairs of configs, one for each GEMM: replayed, cold, nothing queued.

    python benchmarks/samplers/pairs.py --seeds 2

On SGLang's recorded landscapes, whose samples are of each GEMM: the optimum of all pairs over the
best one that measured halves make, after 8, 15 and 30 trials, the mean over seeds.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator, Mapping

import race  # noqa: F401  # sets one BLAS thread: before NumPy

# isort: split
import numpy as np
import optuna
from recordings import DEVICE, SGLANGS, as_routed

from autotune.backends.replay.recording_format import read_recording
from autotune.spec.config import Config, ConfigPair
from autotune.spec.measurement import typical_us
from autotune.spec.problem import KernelMode, Problem
from autotune.studies.key import StudyKey
from autotune.studies.pairs import PairSpace
from autotune.studies.search.samplers import make_sampler
from autotune.studies.space import Space
from autotune.studies.trial_record import HALF_US, OUTCOME, SAMPLES_US, distributions

AT = (8, 15, 30)

Halves = Mapping[Config, tuple[float, float]]
"""Config → µs of the up and of the down GEMM."""


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=2)
    seeds = range(parser.parse_args().seeds)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    print(f"| landscape | {' | '.join(f'at {trials}' for trials in AT)} |")
    print("|---" * (len(AT) + 1) + "|")
    means = []
    for name, problem, halves in _landscapes():
        means.append(np.mean([_ratios(problem, halves, seed) for seed in seeds], axis=0))
        print(f"| {name} | {' | '.join(f'{ratio:.3f}' for ratio in means[-1])} |", flush=True)
    print(f"| mean | {' | '.join(f'{ratio:.3f}' for ratio in np.mean(means, axis=0))} |")
    return 0


def _landscapes() -> Iterator[tuple[str, Problem, Halves]]:
    for path in sorted(SGLANGS.glob("*.npz")):
        for key, results in read_recording(path).studies.items():
            if key.problem.kernel is KernelMode.SEPARATE:
                halves = {
                    pair.up: (typical_us(timed.up_us), typical_us(timed.down_us))
                    for pair, result in results.items()
                    if isinstance(pair, ConfigPair) and (timed := result.measurement)
                }
                name = f"{path.stem.split('_')[0]} M={key.problem.tokens}"
                yield name, as_routed(key.problem), halves


def _ratios(problem: Problem, halves: Halves, seed: int) -> list[float]:
    space = PairSpace(Space(halves), Space(halves))
    optimum = _best(halves.items())
    study = optuna.create_study(sampler=make_sampler("surrogate", space, seed))
    study.set_user_attr("key", StudyKey(problem, DEVICE, space.fingerprint).as_json())
    known: list[tuple[Config, tuple[float, float]]] = []
    ratios = []
    for _ in range(AT[-1]):
        trial = study.ask(dict(distributions(space)))
        pair = ConfigPair.from_keys(trial.params)
        up_us, down_us = halves[pair.up][0], halves[pair.down][1]
        samples = {SAMPLES_US: up_us + down_us, HALF_US["up"]: up_us, HALF_US["down"]: down_us}
        for name, us in samples.items():
            trial.set_user_attr(name, [us])
        trial.set_user_attr(OUTCOME, "ok")
        study.tell(trial, up_us + down_us)
        known += [(pair.up, (up_us, np.inf)), (pair.down, (np.inf, down_us))]
        ratios.append(optimum / _best(known))
    return [ratios[trials - 1] for trials in AT]


def _best(halves: Iterable[tuple[Config, tuple[float, float]]]) -> float:
    """Return the least sum of an up and a down with the same BLOCK_SIZE_M."""
    least: dict[int, tuple[float, float]] = {}
    for config, (up_us, down_us) in halves:
        up, down = least.get(config.block_size_m, (np.inf, np.inf))
        least[config.block_size_m] = min(up, up_us), min(down, down_us)
    return min(up + down for up, down in least.values())


if __name__ == "__main__":
    sys.exit(main())
