"""How good the time model's choices are on our own kernels, as recorded on an H200.

As ``judge.py``, on the files of ``benchmarks/landscapes``: whole layers, of which the model times
the GEMMs alone, so its level is low by design. Resources are guessed, and then those of the very
binaries that were timed. Only batch sizes with 500 configs and more are judged; where a part of a
space was recorded at random, the optimum is that of the part.

    python benchmarks/estimate/own.py benchmarks/landscapes/*.npz
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from judge import NEVER, Row, print_table, row_of

from autotune.devices.recording import read_recording
from autotune.kernels.config import Config
from autotune.kernels.problem import Problem
from autotune.studies.outcome import Outcome, TrialResult

FEWEST = 500


def judge_file(path: Path) -> tuple[list[Row], list[Row]]:
    """Resources guessed, and those of the binaries; a row for each batch size."""
    guessed, compiled = [], []
    studies = sorted(read_recording(path).studies.items(), key=lambda item: item[0].problem.tokens)
    for key, results in studies:
        if len(results) < FEWEST:
            continue
        for rows, known in ((guessed, False), (compiled, True)):
            rows.append(_row(path.stem, key.problem, results, known=known))
    return guessed, compiled


def _row(
    label: str, problem: Problem, results: Mapping[Config, TrialResult], *, known: bool
) -> Row:
    configs = tuple(results)
    resources = [result.resources or NEVER for result in results.values()] if known else None
    return row_of(label, problem, configs, np.array([*map(_us, results.values())]), resources)


def _us(result: TrialResult) -> float:
    if result.outcome is not Outcome.OK or result.measurement is None:
        return float("nan")
    return result.measurement.mean_us


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("files", nargs="+", type=Path)
    judged = [judge_file(path) for path in parser.parse_args().files]
    print_table("Resources guessed before compiling", [row for rows, _ in judged for row in rows])
    print_table("Resources of the binaries", [row for _, rows in judged for row in rows])


if __name__ == "__main__":
    main()
