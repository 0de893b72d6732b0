"""The race's results as Markdown tables and as a plot."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import matplotlib as mpl
import numpy as np

mpl.use("Agg")
from matplotlib import pyplot as plt


class Row(Protocol):
    """The fields of a result (race.Result) that tables read."""

    @property
    def recording(self) -> str: ...
    @property
    def group(self) -> str: ...
    @property
    def sampler(self) -> str: ...
    @property
    def scenario(self) -> str: ...
    @property
    def seed(self) -> int: ...
    @property
    def trials(self) -> int: ...
    @property
    def ratio(self) -> float: ...
    @property
    def repeats(self) -> int: ...
    @property
    def last_ask_s(self) -> float: ...
    @property
    def stop_at(self) -> int: ...
    @property
    def stop_ratio(self) -> float: ...


def print_tables(results: Sequence[Row]) -> None:
    """Best/optimum by family of landscapes: the MoE ones together, every other on its own."""
    for family in dict.fromkeys(map(_family, results)):
        rows = [r for r in results if _family(r) == family]
        print(f"\n### {family}\n")
        _print_family(rows)


def _family(row: Row) -> str:
    if " M=" not in row.recording:
        return row.recording
    return "our kernels, H200" if row.recording.startswith("ours") else "MoE on an H200"


def _print_family(rows: Sequence[Row]) -> None:
    budgets = sorted({row.trials for row in rows})
    heads = " | ".join(f"at {budget}" for budget in budgets)
    rest = "worst landscape | repeats | last proposals | stops"
    print(f"| sampler, knowing | runs | {heads} | {rest} |")
    print("|---" * (len(budgets) + 6) + "|")
    for sampler, scenario in dict.fromkeys((row.sampler, row.scenario) for row in rows):
        mine = [row for row in rows if (row.sampler, row.scenario) == (sampler, scenario)]
        cells = [_cell([row for row in mine if row.trials == budget]) for budget in budgets]
        raced = sorted({row.trials for row in mine})
        worst = " / ".join(f"{_worst_mean(mine, budget):.3f}" for budget in raced)
        repeats = np.mean([row.repeats for row in mine])
        ask_ms = 1e3 * np.mean([row.last_ask_s for row in mine])
        runs = len({(row.recording, row.seed) for row in mine})
        print(f"| {sampler}, {scenario} | {runs} | {' | '.join(cells)} | {worst} | {repeats:.0f} "
              f"| {ask_ms:.0f} ms | {_stops(mine)} |")  # fmt: skip


def _cell(rows: Sequence[Row]) -> str:
    ratios = [row.ratio for row in rows]
    return f"{np.mean(ratios):.4f} (worst {np.min(ratios):.3f})" if ratios else ""


def _worst_mean(rows: Sequence[Row], budget: int) -> float:
    by_recording: dict[str, list[float]] = {}
    for row in rows:
        if row.trials == budget:
            by_recording.setdefault(row.recording, []).append(row.ratio)
    return min((float(np.mean(ratios)) for ratios in by_recording.values()), default=float("nan"))


def _stops(rows: Sequence[Row]) -> str:
    """Return when --stop-gain would have stopped, and with what ratio."""
    most = max(row.trials for row in rows)
    last = [row for row in rows if row.trials == most]
    stopped = [row for row in last if row.stop_at]
    if not stopped:
        return "–"
    at = np.mean([row.stop_at for row in stopped])
    ratio = np.mean([row.stop_ratio for row in stopped])
    return f"{len(stopped)} of {len(last)}, after {at:.0f} with {ratio:.3f}"


def plot(results: Sequence[Row], path: Path) -> None:
    """One panel for each family: mean best/optimum over trials, a line for each sampler."""
    families = list(dict.fromkeys(map(_family, results)))
    figure, axes = plt.subplots(1, len(families), figsize=(5 * len(families), 4), squeeze=False)
    for axis, family in zip(axes[0], families, strict=True):
        rows = [row for row in results if _family(row) == family]
        for sampler, scenario in dict.fromkeys((row.sampler, row.scenario) for row in rows):
            mine = [row for row in rows if (row.sampler, row.scenario) == (sampler, scenario)]
            budgets = sorted({row.trials for row in mine})
            means = [np.mean([r.ratio for r in mine if r.trials == b]) for b in budgets]
            axis.plot(budgets, means, marker="o", label=f"{sampler}, {scenario}")
        axis.set(title=family, xlabel="measurements", ylabel="best/optimum, mean over seeds")
        axis.grid(alpha=0.3)
        axis.legend(fontsize="small")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)
