"""Seconds that a proposal takes.

    python benchmarks/samplers/proposal_time.py --landscapes ../shared/landscapes

Random rows are told one by one; from 180 to 220 trials each proposal is timed: seconds of a core
(not of the wall clock, so that others may use the machine) on one BLAS thread, from an in-memory
study. Hyperparameters are fitted anew in one proposal of about
twenty: the slowest. Candidates: a recorded MoE space, the engines' whole grid, a GEMM's space.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import race  # noqa: F401  # sets one BLAS thread: before NumPy

# isort: split
import numpy as np
import optuna
from recordings import DEVICE, SGLANGS, recordings

from autotune.spec.config import Config
from autotune.spec.problem import Problem
from autotune.studies.key import StudyKey
from autotune.studies.search.surrogate.candidates import candidates_of
from autotune.studies.search.surrogate.sampler import SurrogateSampler, TransferSampler
from autotune.studies.space import Space

FROM, TO = 180, 220
BATCH = 8
GRID = {
    "BLOCK_SIZE_M": (16, 32, 64, 128, 256),
    "BLOCK_SIZE_N": (32, 64, 128, 256),
    "BLOCK_SIZE_K": (64, 128, 256),
    "GROUP_SIZE_M": (1, 16, 32, 64),
    "num_warps": (4, 8),
    "num_stages": (2, 3, 4, 5),
}
"""The engines' tuning grid: 1,920 configs."""
PROBLEM = Problem(experts=128, top_k=8, hidden=2048, intermediate=768, tokens=64)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--landscapes", type=Path, required=True, help="folder of recordings")
    args = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    print("| candidates | median | slowest | batch of 8, median | 8 likely, median |")
    print("|---" * 5 + "|")
    for rows, sampler, key in _cases(args.landscapes):
        asks, batches, likely = _times(rows, sampler, key)
        cells = (np.median(asks), np.max(asks), np.median(batches), np.median(likely))
        milliseconds = " | ".join(f"{1e3 * cell:.0f} ms" for cell in cells)
        print(f"| {len(rows):,} | {milliseconds} |", flush=True)
    return 0


def _cases(folder: Path) -> Iterator[tuple[Sequence[Any], SurrogateSampler, StudyKey | None]]:
    yield _moe(recordings(SGLANGS)["qwen3-30b-a3b M=64"].configs)
    grid = (dict(zip(GRID, values, strict=True)) for values in itertools.product(*GRID.values()))
    yield _moe([Config.from_keys(keys) for keys in grid])
    rows = recordings(folder)["gemm_RTX_3090"].rows
    yield rows, SurrogateSampler(candidates_of(rows), 0), None


def _moe(configs: Sequence[Config]) -> tuple[Sequence[Any], SurrogateSampler, StudyKey]:
    space = Space(tuple(configs))
    rows = [config.as_keys() for config in space.configs]
    return rows, TransferSampler(space, 0), StudyKey(PROBLEM, DEVICE, space.fingerprint)


def _times(
    rows: Sequence[Any], sampler: SurrogateSampler, key: StudyKey | None
) -> tuple[list[float], list[float], list[float]]:
    """Seconds of each proposal, of each batch, and of naming what is likely."""
    rng = np.random.default_rng(0)
    candidates = candidates_of(rows)
    study = optuna.create_study(sampler=sampler)
    if key is not None:
        study.set_user_attr("key", key.as_json())
    told = rng.permutation(len(rows))[:TO]
    us = np.exp(candidates.unit @ rng.normal(size=candidates.unit.shape[1]) + rng.normal(size=1))
    asks, batches, likely = [], [], []
    for count, row in enumerate(told):
        study.enqueue_trial(rows[row])
        trial = study.ask(dict(candidates.distributions))
        study.tell(trial, float(us[row]))
        if count == FROM - 1:
            sampler.propose(study, 1)  # loads scikit-learn
        if count >= FROM:
            asks.append(_seconds(lambda: sampler.propose(study, 1)))
            batches.append(_seconds(lambda: sampler.propose(study, BATCH)))
            likely.append(_seconds(lambda: sampler.likely(study, BATCH)))
    return asks, batches, likely


def _seconds(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


if __name__ == "__main__":
    sys.exit(main())
