"""May our kernel stand in for SGLang's and vLLM's? Recordings of the same configs, side by side.

    python -m autotune record --model MODEL --engine vllm --limit 200 --output ours.npz
    python -m autotune record --model MODEL --provider vllm --like ours.npz --output vllm.npz
    python benchmarks/gpu/parity.py ours.npz vllm.npz --write

takes any number of recordings: each says whose kernel it is of. Every problem of an engine's that
ours have too, on the same GPU under the same Triton, is a row, over the configs of both:

    spearman    rank correlation of the times of those that both measured completely
    ours there  what our best config costs on the engine's kernel, over the best there: inf where
                it cannot run
    theirs here what the engine's best config costs on ours, over our best

The second table sums up each engine, dtype and architecture: the smallest correlation, and the
mean and the largest costs. ``--write`` puts it into autotune/backends/stand_in.json, which says
where our kernel is a proven stand-in; what these recordings say nothing about stays there.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from autotune.backends.replay.recording_format import Results, read_recording
from autotune.backends.stand_in import DATA, OURS, Cell, Evidence, owner_of
from autotune.spec.device import Device
from autotune.spec.problem import KernelMode, Problem
from autotune.studies.outcome import Outcome, TrialResult

FEWEST = 20
"""Configs that both kernels must have measured completely."""
REPOSITORY = Path(__file__).parents[2]
Place = tuple[Problem, str, str]
"""A problem, the GPU's name and Triton's version: times of one place can be compared."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """One problem on one kernel."""

    path: Path
    owner: str
    """Name and version of the engine, or ``OURS``."""
    device: Device
    results: Results


@dataclass(frozen=True, slots=True)
class Parity:
    """Our kernel and an engine's on one problem."""

    cell: Cell
    owner: str
    problem: Problem
    configs: int
    """Configs that both measured completely."""
    spearman: float
    ours_there: float
    theirs_here: float
    files: tuple[Path, Path]


def read(paths: Iterable[Path]) -> dict[Place, list[Recorded]]:
    """Every fused problem of the recordings."""
    found: dict[Place, list[Recorded]] = {}
    for path in paths:
        for key, results in read_recording(path).studies.items():
            if key.problem.kernel is KernelMode.FUSED:
                device = key.device
                place = key.problem, device.name, device.triton_version
                recorded = Recorded(path, owner_of(device.method), device, results)
                found.setdefault(place, []).append(recorded)
    return found


def parities(found: Mapping[Place, Sequence[Recorded]]) -> list[Parity]:
    """Each engine's against ours, by engine, dtype and batch size."""
    rows = []
    for (problem, _, _), recorded in found.items():
        ours = [one for one in recorded if one.owner == OURS]
        theirs = [one for one in recorded if one.owner != OURS]
        rows += [p for one in theirs for own in ours[-1:] if (p := _parity(problem, own, one))]
    return sorted(rows, key=lambda p: (p.cell.engine, p.cell.dtype, p.cell.target, p.problem.name))


def _parity(problem: Problem, ours: Recorded, theirs: Recorded) -> Parity | None:
    common = [config for config in ours.results if config in theirs.results]
    pairs = [(ours.results[config], theirs.results[config]) for config in common]
    whole = np.array([(_us(a), _us(b)) for a, b in pairs if a.outcome is b.outcome is Outcome.OK])
    if len(whole) < FEWEST:
        print(f"{problem.name}: left out, {len(whole)} configs in common with {theirs.owner}")
        return None
    here, there = np.array([(_us(a), _us(b)) for a, b in pairs]).T
    return Parity(
        cell=Cell.of(theirs.owner.partition(" ")[0], problem, theirs.device.target),
        owner=theirs.owner,
        problem=problem,
        configs=len(whole),
        spearman=float(spearmanr(*whole.T).statistic),
        ours_there=float(there[here.argmin()] / there.min() - 1),
        theirs_here=float(here[there.argmin()] / here.min() - 1),
        files=(ours.path, theirs.path),
    )


def _us(result: TrialResult) -> float:
    """The mean; of one that was given up, that of the samples it got; inf where it failed."""
    return result.measurement.geomean_us if result.measurement else math.inf


def evidence_of(rows: Sequence[Parity]) -> dict[Cell, Evidence]:
    """The rows of each cell, summed up."""
    cells = {cell: [row for row in rows if row.cell == cell] for cell in (r.cell for r in rows)}
    return {
        cell: Evidence(
            kernel=", ".join(sorted({row.owner for row in group})),
            problems=len(group),
            spearman=round(min(row.spearman for row in group), 3),
            cost_mean=round(sum(row.ours_there for row in group) / len(group), 4),
            cost_worst=round(max(row.ours_there for row in group), 4),
            source=_command(path for row in group for path in row.files),
        )
        for cell, group in cells.items()
    }


def write(evidence: Mapping[Cell, Evidence], path: Path) -> None:
    """Put the evidence into the data file, in place of what it said about these cells."""
    rows = [asdict(cell) | asdict(known) for cell, known in evidence.items()]
    names = set(map(_named, rows))
    kept = [row for row in json.loads(path.read_text())["evidence"] if _named(row) not in names]
    rows = [{k: "inf" if v == math.inf else v for k, v in row.items()} for row in rows]
    text = json.dumps({"evidence": sorted([*kept, *rows], key=_named)}, indent=2)
    path.write_text(f"{text}\n")


def _named(row: Mapping[str, Any]) -> tuple[str, ...]:
    return row["engine"], row["dtype"], row["target"]


def print_rows(rows: Sequence[Parity]) -> None:
    print(f"{'kernel':14} {'problem':64} {'configs':>7} {'spearman':>8} {'ours there':>10} "
          f"{'theirs here':>11}")  # fmt: skip
    for row in rows:
        print(f"{row.owner:14} {row.problem.name:64} {row.configs:7} {row.spearman:8.3f} "
              f"{row.ours_there:10.2%} {row.theirs_here:11.2%}")  # fmt: skip


def print_cells(evidence: Mapping[Cell, Evidence], rows: Sequence[Parity]) -> None:
    print(f"\n{'engine':7} {'dtype':20} {'target':9} {'problems':>8} {'spearman':>8} "
          f"{'ours there':>10} {'worst':>7} {'theirs here':>11} {'worst':>7}")  # fmt: skip
    for cell, known in evidence.items():
        here = [row.theirs_here for row in rows if row.cell == cell]
        print(f"{cell.engine:7} {cell.dtype:20} {cell.target:9} {known.problems:8} "
              f"{known.spearman:8.3f} {known.cost_mean:10.2%} {known.cost_worst:7.2%} "
              f"{sum(here) / len(here):11.2%} {max(here):7.2%}  "
              f"{'proven' if known.is_enough else 'not proven'}")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recordings", type=Path, nargs="+", help="ours and the engines'")
    parser.add_argument("--write", action="store_true", help=f"into {DATA.name}")
    parser.add_argument("--data", type=Path, default=DATA, help="the file to write")
    args = parser.parse_args()
    rows = parities(read(args.recordings))
    if not rows:
        parser.error("no problem is in recordings of ours and of an engine's kernel")
    evidence = evidence_of(rows)
    print_rows(rows)
    print_cells(evidence, rows)
    if args.write:
        write(evidence, args.data)


def _command(paths: Iterable[Path]) -> str:
    files = dict.fromkeys(map(_shown, paths))
    return f"python benchmarks/gpu/parity.py {' '.join(files)}"


def _shown(path: Path) -> str:
    """The path within the repository, else the name: folders of a machine are nobody's business."""
    whole = path.resolve()
    within = whole.is_relative_to(REPOSITORY)
    return str(whole.relative_to(REPOSITORY)) if within else whole.name


if __name__ == "__main__":
    main()
