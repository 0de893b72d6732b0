"""Judges the time model's choices on our own kernels, as recorded on an H200.

As ``judge.py``, on the files of ``benchmarks/landscapes``: whole layers, of which the model times
the GEMMs alone, so its level is low by design. Resources are guessed, and then those of the very
binaries that were timed. Only batch sizes with 500 configs and more are judged; where a part of a
space was recorded at random, the optimum is that of the part.

    python benchmarks/estimate/own.py benchmarks/landscapes/*[^e].npz
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from judge import NEVER, print_table, row_of

from autotune.backends.replay.recording_format import read_recording
from autotune.spec.arrays import Floats
from autotune.spec.config import AnyConfig, Config
from autotune.spec.measurement import Resources
from autotune.spec.problem import Problem
from autotune.studies.outcome import Outcome, TrialResult

FEWEST = 500


Landscape = tuple[Problem, tuple[Config, ...], Floats, list[Resources]]
"""A problem, its recorded configs, their µs (NaN: stopped or failed), and their resources."""


def landscapes_of(path: Path) -> list[Landscape]:
    """Return the recorded landscapes with enough configs, by batch size."""
    found: list[Landscape] = []
    studies = sorted(read_recording(path).studies.items(), key=lambda item: item[0].problem.tokens)
    for key, results in studies:
        if len(results) >= FEWEST:
            us = np.array([*map(_us, results.values())])
            resources = [result.resources or NEVER for result in results.values()]
            found.append((key.problem, tuple(map(_config, results)), us, resources))
    return found


def _config(config: AnyConfig) -> Config:
    if isinstance(config, Config):
        return config
    raise SystemExit("a recording of separate kernels: only those of fused ones are judged")


def _us(result: TrialResult) -> float:
    if result.outcome is not Outcome.OK or result.measurement is None:
        return float("nan")
    return result.measurement.geomean_us


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("files", nargs="+", type=Path)
    files = parser.parse_args().files
    landscapes = [(path.stem, *found) for path in files for found in landscapes_of(path)]
    for title, is_known in (
        ("Resources guessed before compiling", False),
        ("Resources of the binaries", True),
    ):
        rows = [
            row_of(label, problem, configs, us, resources if is_known else None)
            for label, problem, configs, us, resources in landscapes
        ]
        print_table(title, rows)


if __name__ == "__main__":
    main()
