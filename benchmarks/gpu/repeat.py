"""How repeatable times and winners are on this GPU.

1. One config measured twenty times in a row and twenty times between others, with cold and with
   warm L2: spread of the medians.
2. The winners of two runs (two engine files) against each other, in turn, paired by routing:
   ratio with its 95 % interval.

    python benchmarks/gpu/repeat.py --out repeat.json --files FIRST.json SECOND.json
"""

from __future__ import annotations

import argparse
import json
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

from autotune.backends.gpu.measurer import GpuMeasurer, open_gpu
from autotune.backends.protocol import MeasurerOptions
from autotune.engines import ENGINES, read_configs
from autotune.spec.config import AnyConfig
from autotune.spec.problem import Problem
from autotune.studies.pairs import completed_as_asked
from autotune.studies.selection.paired_ratio import ratio

QWEN = Problem(128, 8, 2048, 768, 1)
BATCH_SIZES = (1, 16, 64, 256, 1024, 4096)
REPEATS, ROUNDS = 20, 6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--files", type=Path, nargs=2, help="of two runs of Qwen3-30B TP1 bf16")
    parser.add_argument("--batch-size", type=int, nargs="+", default=BATCH_SIZES)
    args = parser.parse_args()
    found: dict[str, Any] = {}
    for words, cold in (("cold L2", True), ("warm L2", False)):
        options = MeasurerOptions(cache_dir=Path(".cache"), cold_l2=cold)
        measurer = open_gpu(0, options)
        found[words] = [spread(measurer, tokens) for tokens in args.batch_size]
        print(words, *found[words], sep="\n")
        if args.files and cold:
            tables = [read_configs(file) for file in args.files]
            found["two runs"] = [
                two_winners(measurer, tokens, [table[tokens] for table in tables])
                for tokens in sorted(set(tables[0]) & set(tables[1]))
            ]
            print("two runs", *found["two runs"], sep="\n")
        measurer.close()
        args.out.write_text(json.dumps(found, indent=1) + "\n")


def spread(measurer: GpuMeasurer, tokens: int) -> dict[str, float]:
    """Of vLLM's default: medians in a row, and between measurements of another config."""
    problem = replace(QWEN, tokens=tokens)
    default = ENGINES["vllm"].default_config(problem, measurer.device)
    config = completed_as_asked(problem, measurer.device, default)
    other = next(c for c in measurer.space(problem).configs if c != config)
    row = [_median(measurer, problem, config) for _ in range(REPEATS)]
    between = []
    for _ in range(REPEATS):
        _median(measurer, problem, other)
        between.append(_median(measurer, problem, config))
    return {
        "batch_size": tokens,
        "us": round(statistics.median(row), 2),
        "in_a_row_percent": _percent(row),
        "between_others_percent": _percent(between),
        "shift_percent": round(100 * (statistics.median(between) / statistics.median(row) - 1), 3),
    }


def two_winners(measurer: GpuMeasurer, tokens: int, configs: list[Any]) -> dict[str, Any]:
    """Both runs' choice for a batch size, in turn; a ratio above 1: the second is slower."""
    problem = replace(QWEN, tokens=tokens)
    first, second = (completed_as_asked(problem, measurer.device, c) for c in configs)
    if first == second:
        return {"batch_size": tokens, "same": True}
    samples: dict[AnyConfig, list[float]] = {first: [], second: []}
    for _ in range(ROUNDS):
        for config in samples:
            measurement = measurer.measure(problem, config).measurement
            assert measurement is not None
            samples[config] += measurement.samples_us
    found = ratio(samples[second], samples[first])
    return {
        "batch_size": tokens,
        "same": False,
        "configs": [str(first), str(second)],
        "ratio": round(found.middle, 4),
        "interval": [round(found.low, 4), round(found.high, 4)],
    }


def _median(measurer: GpuMeasurer, problem: Problem, config: AnyConfig) -> float:
    measurement = measurer.measure(problem, config).measurement
    assert measurement is not None
    return measurement.geomean_us


def _percent(values: list[float]) -> float:
    """Standard deviation over the mean."""
    return round(100 * statistics.stdev(values) / statistics.fmean(values), 3)


if __name__ == "__main__":
    main()
