"""Are two runs' winners as good as each other? What ``run --json`` said, twice, on the same GPU.

    python benchmarks/gpu/twice.py benchmarks/gpu/h200_real/qwen/{cold,warm}.json

The engines' defaults are the same configs in both: how far their times differ is the noise.
"""

from __future__ import annotations

import argparse
import math
import statistics
from pathlib import Path
from typing import Any

from run_json import results_of

Row = dict[str, Any]
Key = tuple[str, int]
"""Engine and batch size."""


def rows_of(path: Path) -> dict[Key, Row]:
    """The measured results of a run."""
    return {(row["engine"], row["batch_size"]): row for row in results_of(path) if row["us"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("first", type=Path)
    parser.add_argument("second", type=Path)
    args = parser.parse_args()
    first, second = rows_of(args.first), rows_of(args.second)
    winners, defaults = [], []
    print(f"{'engine':8} {'tokens':>6} {'winner':7} {'second/first':>13} {'default s/f':>12}")
    for key in sorted(first.keys() & second.keys()):
        a, b = first[key], second[key]
        winners.append(b["us"] / a["us"])
        defaults.append(b["default_us"] / a["default_us"])
        word = "same" if a["config"] == b["config"] else "other"
        print(f"{key[0]:8} {key[1]:6} {word:7} {winners[-1]:13.4f} {defaults[-1]:12.4f}")
    for name, ratios in (("winners", winners), ("defaults", defaults)):
        apart = [abs(math.log(ratio)) for ratio in ratios]
        mean = math.exp(statistics.fmean(map(math.log, ratios)))
        middle = statistics.median(apart)
        print(f"{name}: {mean - 1:+.2%} in the geometric mean, median {middle:.2%} "
              f"apart, at most {max(apart):.2%}")  # fmt: skip


if __name__ == "__main__":
    main()
