"""Do our kernels rank configs as SGLang's does? Two recordings side by side.

    python benchmarks/gpu/agree.py benchmarks/landscapes/qwen3-30b-a3b_tp1_bf16.npz \\
        benchmarks/landscapes/sglang/qwen3-30b-a3b_tp1_bf16.npz

For each batch size that both have, over the configs that both measured completely:

    spearman    rank correlation of the times; over the fastest fifth (of theirs), too
    ours there  what our best config costs on their kernel, over their best
    theirs here what their best config costs on ours, over our best

Of ours the geometric mean over routings counts; of theirs the median, since each routing was timed
once, with outliers. Theirs are up + down GEMM. So are ours of a recording of separate kernels (of
its pairs without TMA); a fused recording times the whole layer, which is said.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

from autotune.backends.replay.recording_format import read_recording
from autotune.spec.arrays import Floats
from autotune.spec.config import AnyConfig, Config, pair_of
from autotune.spec.device import DeviceKind
from autotune.studies.outcome import Outcome

sys.path.insert(0, str(Path(__file__).parents[1] / "landscapes"))

from gemm_times import read_gemm_times

FEWEST = 5
"""Common configs from which a correlation is printed."""
Times = dict[int, dict[str, float]]
"""Batch size → config in words → µs."""


def our_times(path: Path) -> tuple[Times, str]:
    """The complete measurements without TMA, and how they were taken."""
    recording = read_recording(path)
    times: Times = {}
    how = set()
    for key, results in recording.studies.items():
        for config, result in results.items():
            alike = _without_tma(config)
            if alike is None or result.outcome is not Outcome.OK or result.measurement is None:
                continue
            times.setdefault(key.problem.tokens, {})[str(alike)] = result.measurement.geomean_us
            how.add(result.measurement.how)
    kind = recording.device.kind
    measured = "measured" if kind is DeviceKind.CUDA else f"NOT measured ({kind.value})"
    device = recording.device
    return times, f"{device.name}, Triton {device.triton_version}, {measured}: {' | '.join(how)}"


def _without_tma(config: AnyConfig) -> Config | None:
    pair = pair_of(config)
    if pair.up != pair.down or pair.up.use_tma:
        return None
    return replace(pair.up, use_tma=None)


def their_times(path: Path) -> Times:
    landscape = read_gemm_times(path)
    times: Times = {}
    for tokens in landscape.batch_sizes:
        medians = zip(landscape.configs, landscape.median_us(tokens), strict=True)
        times[tokens] = {str(config): float(us) for config, us in medians if np.isfinite(us)}
    return times


def row(tokens: int, ours: Floats, theirs: Floats) -> str:
    """Both arrays are of the same configs."""
    fast = theirs <= np.quantile(theirs, 0.2)
    top = spearmanr(ours[fast], theirs[fast]).statistic if fast.sum() >= FEWEST else np.nan
    there = theirs[ours.argmin()] / theirs.min() - 1
    here = ours[theirs.argmin()] / ours.min() - 1
    everyone = spearmanr(ours, theirs).statistic
    level = np.median(ours / theirs)
    return (f"{tokens:6} {len(ours):8} {everyone:9.3f} {top:9.3f} {there:11.2%} {here:12.2%} "
            f"{ours.min():9.1f} {theirs.min():10.1f} {level:7.3f}")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("ours", type=Path, help="written by record")
    parser.add_argument("theirs", type=Path, help="in landscapes/sglang")
    args = parser.parse_args()
    ours, how = our_times(args.ours)
    theirs = their_times(args.theirs)
    print(f"ours: {how}")
    print(f"{'tokens':>6} {'configs':>8} {'spearman':>9} {'fastest':>9} {'ours there':>11} "
          f"{'theirs here':>12} {'our best':>9} {'their best':>10} {'level':>7}")  # fmt: skip
    for tokens in sorted(ours.keys() & theirs.keys()):
        common = sorted(ours[tokens].keys() & theirs[tokens].keys())
        if len(common) < FEWEST:
            print(f"{tokens:6} {len(common):8} too few configs in common")
            continue
        pairs = ([times[tokens][config] for config in common] for times in (ours, theirs))
        print(row(tokens, *(np.array(us) for us in pairs)))


if __name__ == "__main__":
    main()
