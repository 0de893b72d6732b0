"""Prints what serve.py measured: for each load the median of every arm over its rounds (tokens a
second with half their range, milliseconds to the first token and for each later one), and its rate
and its time for a later token over those of one arm.

python benchmarks/serving/table.py FOLDER [FOLDER …] [--first ARM]
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
    parser.add_argument(
        "--first",
        metavar="ARM",
        help="the arm that others are held to: as_it_comes, where it was measured, else the first "
        "by name",
    )
    flags = parser.parse_args()
    measured: dict[str, dict[str, Rows]] = defaultdict(lambda: defaultdict(list))
    for folder in flags.folders:
        for line in (folder / "results.jsonl").read_text().splitlines():
            row = json.loads(line)
            measured[row["name"]][row["arm"]].append(row)
    found = {arm for by_arm in measured.values() for arm in by_arm}
    if flags.first not in {None, *found}:
        parser.error(f"--first {flags.first}: the arms are {', '.join(sorted(found))}")
    arms = sorted(found, key=lambda arm: (arm != (flags.first or "as_it_comes"), arm))
    first = arms[0]
    print("arms: tokens/s (± half their range), ms to the first token, ms for each later token")
    print("ratios: of tokens/s, of the time for a later token\n")
    heads = [*arms, *(f"{arm} / {first}" for arm in arms[1:])]
    print("| load | " + " | ".join(heads) + " |")
    print("|---" * (len(heads) + 1) + "|")
    ratios: dict[str, list[float]] = defaultdict(list)
    for load, by_arm in measured.items():
        cells = [_cell(by_arm[arm]) for arm in arms]
        for arm in arms[1:]:
            if arm in by_arm and first in by_arm:
                rate, later = (
                    _ratio(by_arm[arm], by_arm[first], what)
                    for what in ("tokens_per_second", "tpot_ms")
                )
                ratios[arm].append(rate)
                cells.append(f"{rate:.3f}, {later:.3f}")
            else:
                cells.append("")
        print(f"| {load} | " + " | ".join(cells) + " |")
    for arm, over_first in ratios.items():
        mean = geometric_mean(over_first)
        print(f"{arm} over {first}: {mean:.3f} of its tokens/s, geometric mean of the loads")


def _cell(rows: Rows) -> str:
    if not rows:
        return ""
    rates = [row["tokens_per_second"] for row in rows]
    spread = 50 * (max(rates) - min(rates)) / median(rates)
    rounds = f"±{spread:.1f} % in {len(rows)}" if len(rows) > 1 else "once"
    first, later = (median(row[what] for row in rows) for what in ("ttft_ms", "tpot_ms"))
    return f"{median(rates):,.0f} ({rounds}), {first:,.0f}, {later:.2f}"


def _ratio(rows: Rows, base: Rows, what: str) -> float:
    """Return what rows have over what base has, medians of the rounds."""
    ours, its = (median(row[what] for row in one) for one in (rows, base))
    return ours / its


if __name__ == "__main__":
    main()
