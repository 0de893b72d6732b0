"""Prints what serve.py measured: for each load the median of every arm, half its range over the
rounds, and the ratio to one arm.

python benchmarks/serving/table.py FOLDER [FOLDER …] [--first as_it_comes]
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path
from statistics import geometric_mean, median

Rows = list[dict[str, float]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--first", default="as_it_comes", help="the arm that others are held to")
    flags = parser.parse_args()
    measured: dict[str, dict[str, Rows]] = defaultdict(lambda: defaultdict(list))
    for folder in flags.folders:
        for line in (folder / "results.jsonl").read_text().splitlines():
            row = json.loads(line)
            measured[row["name"]][row["arm"]].append(row)
    found = {arm for by_arm in measured.values() for arm in by_arm}
    arms = sorted(found, key=lambda arm: (arm != flags.first, arm))
    heads = " | ".join(f"{arm}: tokens/s, first token ms" for arm in arms)
    print(f"| load | {heads} | over {flags.first} |")
    print("|---" * (len(arms) + 2) + "|")
    ratios: dict[str, list[float]] = defaultdict(list)
    for load, by_arm in measured.items():
        over = []
        for arm in arms[1:]:
            if arm in by_arm and flags.first in by_arm:
                ratios[arm].append(_ratio(by_arm[arm], by_arm[flags.first]))
                over.append(f"{ratios[arm][-1]:.3f}")
        print(f"| {load} | {' | '.join(_cell(by_arm[arm]) for arm in arms)} | {', '.join(over)} |")
    for arm, over_first in ratios.items():
        mean = geometric_mean(over_first)
        print(f"{arm} over {flags.first}: {mean:.3f} in the geometric mean of loads")


def _cell(rows: Rows) -> str:
    if not rows:
        return ""
    rates = [row["tokens_per_second"] for row in rows]
    spread = 50 * (max(rates) - min(rates)) / median(rates)
    rounds = f"±{spread:.1f} % in {len(rows)}" if len(rows) > 1 else "once"
    return f"{median(rates):,.0f} ({rounds}), {median(row['ttft_ms'] for row in rows):,.0f}"


def _ratio(rows: Rows, base: Rows) -> float:
    """Return the tokens a second of rows over those of base, medians of the rounds."""
    rates = [median(row["tokens_per_second"] for row in one) for one in (rows, base)]
    return rates[0] / rates[1]


if __name__ == "__main__":
    main()
