"""Does a GPU's power limit blur times, and what do rests after long calls and turns do about it?

For each case, batch size and rest (a share of the call's time):

- one config measured twelve times in a row, from a cool GPU: spread and drift of the medians;
- two neighbours (GROUP_SIZE_M differs), the first of them twice, in two rounds as finalists are:
  ratios with their 95 % intervals, with interleaved samples and one after the other. The ratio
  of a config to itself should hold 1.

    python benchmarks/gpu/steady.py --out steady.json --rests 0 0.5 1 2
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from autotune.backends.gpu.measurer import GpuMeasurer, open_gpu
from autotune.backends.protocol import MeasurerOptions
from autotune.spec.config import Config
from autotune.spec.problem import Dtype, Problem
from autotune.studies.outcome import TrialResult
from autotune.studies.pairs import completed_as_asked
from autotune.studies.selection.paired_ratio import ratio

QWEN = Problem(128, 8, 2048, 768, 1)
MIXTRAL = Problem(8, 2, 4096, 7168, 1)
DEEPSEEK = Problem(
    257, 9, 7168, 256, 1, Dtype.FP8_W8A8, block_shape=(128, 128), fused_shared_experts=1
)
LARGE = Config(128, 256, 64, 16, 8, 4)
CASES = (
    ("qwen", QWEN, (1024, 2048, 4096), LARGE),
    ("mixtral", MIXTRAL, (512, 1024, 1536, 2048, 3072, 4096), LARGE),
    ("deepseek", DEEPSEEK, (2048, 4096), Config(64, 128, 128, 16, 4, 3)),
)
REPEATS, ROUNDS, COOL_S = 12, 2, 0.5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rests", type=float, nargs="+", default=(0, 0.5, 1, 2))
    args = parser.parse_args()
    rows = []
    options = MeasurerOptions(cache_dir=Path(".cache"))
    measurers = {rest: open_gpu(0, options, rest=rest) for rest in args.rests}
    device = next(iter(measurers.values())).device
    for name, model, sizes, config in CASES:
        for tokens in sizes:
            problem = replace(model, tokens=tokens)
            first = completed_as_asked(problem, device, config)
            neighbour = replace(config, group_size_m=64)
            other = completed_as_asked(problem, device, neighbour)
            for rest, measurer in measurers.items():
                row = {"case": name, "batch_size": tokens, "rest": rest}
                row |= in_a_row(measurer, problem, first)
                row["in_turns"] = ratios(measurer, problem, (first, other, first), together=True)
                row["apart"] = ratios(measurer, problem, (first, other, first), together=False)
                rows.append(row)
                print(row, flush=True)
                args.out.write_text(json.dumps(rows, indent=1) + "\n")


def in_a_row(measurer: GpuMeasurer, problem: Problem, config: Any) -> dict[str, float]:
    """Spread of the medians, and the last ones over the first."""
    measurer.measure(problem, config)
    time.sleep(COOL_S)
    begin = time.monotonic()
    medians = [_samples(measurer.measure(problem, config)) for _ in range(REPEATS)]
    seconds = time.monotonic() - begin
    us = [statistics.median(samples) for samples in medians]
    return {
        "us": round(statistics.median(us), 2),
        "spread_percent": round(100 * statistics.stdev(us) / statistics.fmean(us), 2),
        "drift_percent": round(100 * (statistics.fmean(us[-3:]) / us[0] - 1), 2),
        "ms_each": round(1000 * seconds / REPEATS, 1),
    }


def ratios(
    measurer: GpuMeasurer, problem: Problem, configs: tuple[Any, ...], *, together: bool
) -> dict[str, list[float]]:
    """[middle, low, high] of the second config, and of the first again, over the first."""
    samples: list[list[float]] = [[] for _ in configs]
    for _ in range(ROUNDS):
        if together:
            results = measurer.measure_interleaved(problem, configs)
        else:
            results = tuple(measurer.measure(problem, config) for config in configs)
        for number, result in enumerate(results):
            samples[number] += _samples(result)
    found = {"other": ratio(samples[1], samples[0]), "itself": ratio(samples[2], samples[0])}
    return {k: [round(v, 4) for v in (r.middle, r.low, r.high)] for k, r in found.items()}


def _samples(result: TrialResult) -> tuple[float, ...]:
    assert result.measurement is not None, result.reason
    return result.measurement.samples_us


if __name__ == "__main__":
    main()
