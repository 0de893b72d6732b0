"""The one constant of the time model that recordings chose: fitted on half of them, judged on the
other half.

What a row of a tile shorter than a cache line costs (``HALF_LINE_SHARE``) no microbenchmark of this
folder says. For each value of it, of Qwen3's recordings and of all others (DeepSeek's block fp8 and
Mixtral's), of our kernels and SGLang's: how far modelled times stray from measured ones (root mean
square of the logarithms, each landscape's median taken off, over configs within twice the best's
time, resources compiled), and the mean share of the model's first choice, resources guessed and
compiled.

    python benchmarks/estimate/halves.py --landscapes ../shared/landscapes \\
        benchmarks/landscapes/*[^e].npz
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from unittest import mock

import numpy as np
from judge import (
    BINARIES,
    CASES,
    DEFAULT_LANDSCAPES,
    compiled_resources,
    modelled_us,
    row_of,
)
from own import landscapes_of

from autotune.devices import time_model
from autotune.devices.landscape import Floats, load_landscape
from autotune.kernels.config import Config
from autotune.kernels.measurement import Resources
from autotune.kernels.problem import Problem

VALUES = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3)
FAST = 2.0
"""Times the best's time."""


@dataclass(frozen=True, slots=True)
class Case:
    """One recorded landscape; NaN µs for what failed."""

    problem: Problem
    configs: Sequence[Config]
    us: Floats
    resources: Sequence[Resources]


def strays(case: Case) -> float:
    """Root mean square of log(measured / modelled) around its median."""
    modelled = modelled_us(case.problem, case.configs, case.resources)
    fast = np.isfinite(modelled) & (case.us <= FAST * np.nanmin(case.us))
    logs = np.log(case.us[fast] / modelled[fast])
    return float(np.sqrt(np.mean((logs - np.median(logs)) ** 2)))


def choice(case: Case, *, compiled: bool) -> float:
    resources = case.resources if compiled else None
    return row_of("", case.problem, case.configs, case.us, resources).choice_share


def sglangs(folder: Path) -> list[Case]:
    binaries = json.loads(BINARIES.read_text())
    cases = []
    for case in CASES:
        landscape = load_landscape(folder / case.file)
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
    print(f"| value | {' | '.join(heads)} |\n|---|" + "---|" * len(heads))
    for value in VALUES:
        with mock.patch.object(time_model, "HALF_LINE_SHARE", value):
            cells = [
                f"{np.mean(numbers):.3f}"
                for half in halves.values()
                for numbers in (
                    [strays(case) for case in half],
                    [choice(case, compiled=False) for case in half],
                    [choice(case, compiled=True) for case in half],
                )
            ]
        print(f"| {value} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
