"""How far are a run's winners from the best of the whole space? What ``run --json`` said, against
recordings of the same kernel (``record``) on the same kind of GPU.

    python benchmarks/gpu/regret.py benchmarks/gpu/h200_real/qwen/cold.json \\
        benchmarks/landscapes/qwen3-30b-a3b_tp1_bf16.npz

For each batch size that both have: the winner's recorded time over the recorded optimum's. Where a
part of the space was recorded, the optimum is that of the part, and a winner may be missing.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path

from autotune.devices.recording import read_recording
from autotune.kernels.config import AnyConfig, Config
from autotune.studies.outcome import Outcome


def recorded_us(path: Path) -> dict[tuple[int, int], dict[AnyConfig, float]]:
    """(experts, batch size) → the geometric mean µs of each config that was measured whole."""
    return {
        (key.problem.experts, key.problem.tokens): {
            config: result.measurement.mean_us
            for config, result in results.items()
            if result.outcome is Outcome.OK and result.measurement is not None
        }
        for key, results in read_recording(path).studies.items()
    }


def winners_of(path: Path) -> dict[tuple[int, int], Config]:
    """The measured winners of a run, of either engine; the same problem has one winner."""
    results = json.loads(path.read_text())["results"]
    return {
        (row["E"], row["batch_size"]): Config.from_keys(row["config"])
        for row in results
        if row["us"] and not row["keeps_incumbent"]
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("recording", type=Path)
    args = parser.parse_args()
    recorded, ratios = recorded_us(args.recording), []
    print(f"{'tokens':>6} {'recorded':>8}  {'winner':28} {'µs':>8} {'optimum':>8}  over optimum")
    for key, config in sorted(winners_of(args.run).items()):
        if key not in recorded:
            continue
        times = recorded[key]
        best, us = min(times.values()), times.get(config)
        said = "not recorded" if us is None else f"{us:8.1f} {best:8.1f}  {us / best - 1:+.2%}"
        print(f"{key[1]:6} {len(times):8}  {config!s:28} {said}")
        ratios += [] if us is None else [us / best]
    if ratios:
        mean = statistics.geometric_mean(ratios) - 1
        print(f"{len(ratios)} winners: {mean:+.2%} in the mean, {max(ratios) - 1:+.2%} at most")


if __name__ == "__main__":
    main()
