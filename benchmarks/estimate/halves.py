"""The one figure of the time model that recordings chose: fitted on one model's, judged on the
others'.

What a tile's row of less than 128 bytes costs (``L2_ROW_SHARES``) no microbenchmark of this folder
says. For some shares of rows of 32 and 64 bytes, of Qwen3's recordings and of all others
(DeepSeek's block fp8 and Mixtral's), of our kernels and SGLang's: how far modelled times stray from
measured ones (root mean square of the logarithms, each landscape's median taken off, over configs
within twice the best's time, resources compiled), and the mean share of the model's first choice,
resources guessed and compiled. Then by how much more such rows took than the model without that
figure says (medians, against longer rows): the least and the most of all landscapes.

    python benchmarks/estimate/halves.py benchmarks/landscapes/*[^e].npz
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from operator import itemgetter
from pathlib import Path
from unittest import mock

import numpy as np
from judge import (
    BINARIES,
    CASES,
    DEFAULT_LANDSCAPES,
    compiled_resources,
    modelled_us,
    read_gemm_times,
    row_of,
)
from numpy.typing import NDArray
from own import landscapes_of

from autotune.backends.estimate import constants, model
from autotune.spec.arrays import Floats
from autotune.spec.config import Config
from autotune.spec.measurement import Resources
from autotune.spec.problem import Problem

VALUES = (*((share, share) for share in (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3)), (0.25, 0.5))
"""Shares of rows of 32 and of 64 bytes; the last is as if whole lines of 128 bytes came."""
NAME = "L2_ROW_SHARES"
FAST = 2.0
"""Times the best's time."""


@dataclass(frozen=True, slots=True)
class Case:
    """One recorded landscape; NaN µs for what failed."""

    problem: Problem
    configs: Sequence[Config]
    us: Floats
    resources: Sequence[Resources]


def logs_of(case: Case) -> tuple[Floats, NDArray[np.bool_]]:
    """log(measured / modelled) of the fast configs, and which of them have short rows."""
    modelled = modelled_us(case.problem, case.configs, case.resources)
    fast = np.isfinite(modelled) & (case.us <= FAST * np.nanmin(case.us))
    bits = min(case.problem.dtype.activation_bits, case.problem.dtype.weight_bits)
    row_bytes = np.array([config.block_size_k for config in case.configs]) * bits / 8
    return np.log(case.us[fast] / modelled[fast]), row_bytes[fast] < constants.L2_ROW_BYTES[-1]


def strays(case: Case) -> float:
    """Root mean square of log(measured / modelled) around its median."""
    logs, _ = logs_of(case)
    return float(np.sqrt(np.mean((logs - np.median(logs)) ** 2)))


def excess(case: Case) -> float:
    """Return how much more short rows took than longer ones, both against the model."""
    logs, is_short = logs_of(case)
    return float(np.exp(np.median(logs[is_short]) - np.median(logs[~is_short])) - 1)


def choice(case: Case, *, compiled: bool) -> float:
    resources = case.resources if compiled else None
    return row_of("", case.problem, case.configs, case.us, resources).choice_share


def sglangs(folder: Path) -> list[Case]:
    binaries = json.loads(BINARIES.read_text())
    cases = []
    for case in CASES:
        landscape = read_gemm_times(folder / case.file)
        resources = compiled_resources(case, landscape.configs, binaries)
        cases += [
            Case(
                replace(case.problem, tokens=tokens),
                landscape.configs,
                landscape.median_us(tokens),
                resources,
            )
            for tokens in landscape.batch_sizes
        ]
    return cases


def ours(files: Sequence[Path]) -> list[Case]:
    return [Case(*landscape) for file in files for landscape in landscapes_of(file)]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("files", nargs="+", type=Path, help="recordings of our fused kernels")
    parser.add_argument("--landscapes", type=Path, default=DEFAULT_LANDSCAPES, metavar="DIR")
    args = parser.parse_args()
    cases = sglangs(args.landscapes) + ours(args.files)
    halves = {
        "Qwen3": [case for case in cases if case.problem.experts == CASES[0].problem.experts],
        "others": [case for case in cases if case.problem.experts != CASES[0].problem.experts],
    }
    heads = [f"{name} ({len(half)}): {what}" for name, half in halves.items()
             for what in ("strays", "choice, guessed", "compiled")]  # fmt: skip
    print(f"| rows of 32, 64 B | {' | '.join(heads)} |\n|---|" + "---|" * len(heads))
    for value in VALUES:
        with mock.patch.object(model, NAME, (*value, 1.0)):
            cells = [
                f"{np.mean(numbers):.3f}"
                for half in halves.values()
                for numbers in (
                    [strays(case) for case in half],
                    [choice(case, compiled=False) for case in half],
                    [choice(case, compiled=True) for case in half],
                )
            ]
        print(f"| {value[0]}, {value[1]} | {' | '.join(cells)} |", flush=True)
    with mock.patch.object(model, NAME, (1.0, 1.0, 1.0)):
        found = sorted(((excess(case), case) for case in cases), key=itemgetter(0))
    for more, case in (found[0], found[-1]):
        print(f"short rows took {more:.1%} more at E={case.problem.experts}, {case.problem.tokens}")


if __name__ == "__main__":
    main()
