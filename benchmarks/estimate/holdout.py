"""The time model against this machine's GPU, on problems and a kernel that it has not seen.

For each problem 50 configs are measured: the model's first 25, 20 of the better half, 5 of the
worse. Shares are the best of the 50 / time: an upper bound of the share of the optimum.

    python benchmarks/estimate/holdout.py --gpu NVIDIA_H100_80GB_HBM3
"""

from __future__ import annotations

import argparse
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from autotune.backends.protocol import Measurer, MeasurerOptions
from autotune.backends.selectors import open_measurer
from autotune.spec.config import Config
from autotune.spec.problem import Dtype, Problem

PROBLEMS = (
    *(Problem(8, 2, 4096, 7168, tokens) for tokens in (4, 64, 1024, 4096)),
    *(Problem(64, 6, 2048, 1408, tokens) for tokens in (8, 128, 2048)),
    *(Problem(256, 8, 7168, 256, tokens, Dtype.FP8_W8A8, (128, 128)) for tokens in (16, 128, 1024)),
)
FIRST, BETTER, WORSE = 25, 20, 5


def sample(estimate: Measurer, problem: Problem) -> list[Config]:
    """The model's first ones, best first, then a seeded choice of the others."""
    configs = estimate.space(problem).configs
    order = np.argsort(estimate.prior_us(problem, configs) or ())
    half, rng = len(order) // 2, np.random.default_rng(0)
    better = rng.choice(order[FIRST:half], BETTER, replace=False)
    worse = rng.choice(order[half:], WORSE, replace=False)
    return [configs[row] for row in (*order[:FIRST], *better, *worse)]


def times_us(measurer: Measurer, problem: Problem, configs: list[Config]) -> np.ndarray:
    """Median of each config, NaN where there is none."""
    results = [measurer.measure(problem, config).measurement for config in configs]
    return np.array([np.nan if m is None else m.geomean_us for m in results])


def estimate_us(gpu: str, options: MeasurerOptions, problem: Problem) -> np.ndarray:
    """Return estimates, from a process of its own: compiles take all cores."""
    estimate = open_measurer(f"estimate:{gpu}", options)
    return times_us(estimate, problem, sample(estimate, problem))


def print_row(
    problem: Problem, measured: np.ndarray, guessed: np.ndarray, estimated: np.ndarray
) -> None:
    share = np.nan_to_num(np.nanmin(measured) / measured)
    both = np.isfinite(measured) & np.isfinite(estimated)
    columns = [f"{np.nanmin(measured):.0f}"]
    for modelled in (guessed, estimated):
        order = np.argsort(modelled)
        ranks = [np.argsort(np.argsort(values[both])) for values in (modelled, measured)]
        columns += [f"{share[order[0]]:.3f}", f"{share[order[:10]].max():.3f}"]
        columns += [f"{np.corrcoef(*ranks)[0, 1]:.2f}"]
    columns += [f"{np.median(estimated[both] / measured[both]):.2f}"]
    print(f"| {problem.name} | {' | '.join(columns)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--gpu", required=True, help="name of this machine's GPU, for the model")
    gpu = parser.parse_args().gpu
    print(
        "| problem | best µs | guessed: first | of 10 | rank corr. | compiled: first | of 10 "
        "| rank corr. | model / measured |\n|---|---|---|---|---|---|---|---|---|"
    )
    with TemporaryDirectory() as folder:
        options = MeasurerOptions(cache_dir=Path(folder))
        with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
            estimates = list(pool.map(partial(estimate_us, gpu, options), PROBLEMS))
        estimate, cuda = open_measurer(f"estimate:{gpu}", options), open_measurer("cuda", options)
        for problem, estimated in zip(PROBLEMS, estimates, strict=True):
            configs = sample(estimate, problem)
            guessed = np.array(estimate.prior_us(problem, tuple(configs)))
            print_row(problem, times_us(cuda, problem, configs), guessed, estimated)


if __name__ == "__main__":
    main()
