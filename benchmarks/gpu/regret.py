"""How far are a run's winners from the best of the whole space? What ``run --json`` said, against
recordings of the same kernel (``record``) on the same kind of GPU.

    python benchmarks/gpu/regret.py benchmarks/gpu/h200_real/qwen/cold.json \\
        benchmarks/landscapes/qwen3-30b-a3b_tp1_bf16.npz

For each batch size that both have: the winner's recorded time over the recorded optimum's, once
where both engines have the same. Defaults that were kept are left out. Where a part of the space
was recorded, the optimum is that of the part, and a winner may be missing. "Recorded" are configs
that were measured whole: those many times slower than the best were stopped. "Best group" is the
same for the fastest config that differs from the winner in GROUP_SIZE_M at most: what it would be
at best had the study tried them all, as one that its sampler ends does since these runs were made.
"""

from __future__ import annotations

import argparse
import statistics
from operator import itemgetter
from pathlib import Path

from run_json import is_kept, results_of

from autotune.backends.replay.recording_format import read_recording
from autotune.spec.config import Config
from autotune.studies.outcome import Outcome
from autotune.studies.space import Space, regrouped


def recorded_us(path: Path) -> dict[tuple[int, int], dict[Config, float]]:
    """(experts, batch size) → the geometric mean µs of each config that was measured whole."""
    return {
        (key.problem.experts, key.problem.tokens): {
            config: result.measurement.geomean_us
            for config, result in results.items()
            if isinstance(config, Config) and result.outcome is Outcome.OK and result.measurement
        }
        for key, results in read_recording(path).studies.items()
    }


def winners_of(path: Path) -> dict[tuple[int, int, str], Config]:
    """(experts, batch size, engine) → the measured winner, where it is not what was kept."""
    return {
        (row["E"], row["batch_size"], row["engine"]): Config.from_keys(row["config"])
        for row in results_of(path)
        if row["us"] and not is_kept(row)
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("recording", type=Path)
    args = parser.parse_args()
    recorded = recorded_us(args.recording)
    ratios: dict[tuple[int, Config], tuple[float, float]] = {}
    print(f"{'tokens':>6} {'recorded':>8}  {'winner':28} {'µs':>8} {'optimum':>8}", end="")
    print("  over optimum  best group")
    for (experts, tokens, _), config in sorted(winners_of(args.run).items(), key=itemgetter(0)):
        times = recorded.get((experts, tokens))
        if times is None or (tokens, config) in ratios:
            continue
        best, us = min(times.values()), times.get(config)
        said = "not recorded"
        if us is not None:
            grouped = min(times.get(c, us) for c in regrouped(config, Space(times)))
            ratios[tokens, config] = us / best, grouped / best
            said = (
                f"{us:8.1f} {best:8.1f}        {us / best - 1:+.2%}      {grouped / best - 1:+.2%}"
            )
        print(f"{tokens:6} {len(times):8}  {config!s:28} {said}")
    columns = zip(*ratios.values(), strict=True)
    for what, found in zip(("winners", "of best group"), columns, strict=False):
        mean, most = statistics.geometric_mean(found) - 1, max(found) - 1
        print(f"{len(found)} {what}: {mean:+.2%} in the mean, {most:+.2%} at most")


if __name__ == "__main__":
    main()
