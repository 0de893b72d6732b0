"""A picture of what the GPU of a run did, and what it waited for, from the run's JSON.

    python -m autotune run … --json > run.json
    python benchmarks/gpu/time_line.py run.json [MORE.json …]   # run.png beside it

One row for each worker, a column for each quarter of a second since the run began: the share of
the time that went to each cause.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from run_json import pieces_of

from autotune.report.style import BLACK, BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, VERMILION, YELLOW
from autotune.tuning.time_line import PIECE_S, Cause

COLOURS = {
    Cause.TIME: BLUE,
    Cause.VERIFY: SKY,
    Cause.FINALS: GREEN,
    Cause.LOAD: PURPLE,
    Cause.ENGINE: BLACK,
    Cause.TURN: "#E4E4E4",
    Cause.COMPILE: VERMILION,
    Cause.ASK: ORANGE,
    Cause.OTHERS: YELLOW,
    Cause.DESCRIBE: "#7A5C00",
    Cause.STUDIES: "#B0B0B0",
    Cause.OPEN: GREY,
}


def picture(run: dict[str, Any], title: str) -> Figure:
    """Return the time line of each worker, one below the other."""
    workers = run["time_line"]
    figure = Figure(figsize=(10, 1.0 + 1.3 * len(workers)), layout="constrained")
    FigureCanvasAgg(figure)
    rows = figure.subplots(len(workers), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (name, worker) in zip(rows, workers.items(), strict=True):
        pieces = pieces_of(worker)
        at = [start for start, _ in pieces]
        shares = [
            [seconds.get(cause.value, 0.0) / PIECE_S for _, seconds in pieces] for cause in COLOURS
        ]
        labels = [cause.value for cause in COLOURS]
        axes.stackplot(at, shares, colors=COLOURS.values(), labels=labels, step="post")
        axes.set(ylim=(0, 1), xlim=(0, None), yticks=[], ylabel=f"GPU {name}")
    rows[-1].set_xlabel("seconds since the run began")
    rows[0].set_title(title, loc="left", fontsize=10)
    handles, labels = rows[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False, fontsize=8)
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path)
    for path in parser.parse_args().runs:
        run = json.loads(path.read_text(encoding="utf-8"))
        shares = ", ".join(f"{cause} {share:.0%}" for cause, share in run["device_time"].items())
        print(f"{path}: {shares}")
        title = f"{path.stem}: {run['new_measurements']} measurements in {run['seconds']:.0f} s"
        picture(run, title).savefig(path.with_suffix(".png"))


if __name__ == "__main__":
    main()
