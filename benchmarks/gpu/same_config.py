"""Our GEMMs against SGLang's with the same configs: what quality.py timed, and its recordings.

    python benchmarks/gpu/same_config.py QUALITY.json benchmarks/landscapes/sglang

For each timed row whose config SGLang's kernel was recorded with at the same batch size: µs of both
GEMMs, ours over theirs. Then the share of the ceilings of quality.json that its best config
reaches. Up and down are medians over routings, as are SGLang's best; both with a cold L2, ours by
CUDA graphs, theirs by events.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from quality import CASES, shares

sys.path.insert(0, str(Path(__file__).parents[1] / "landscapes"))

from gemm_times import read_gemm_times

FILES = {
    "qwen": "qwen3-30b-a3b_tp1_bf16.npz",
    "deepseek": "deepseek-v3_tp8_fp8block.npz",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("quality", type=Path)
    parser.add_argument("landscapes", type=Path)
    args = parser.parse_args()
    timed = json.loads(args.quality.read_text())
    rows = [row for row in timed["rows"] if row["case"] in FILES]
    print("case      tokens  config                up ours/theirs       down ours/theirs")
    for row in rows:
        landscape = read_gemm_times(args.landscapes / FILES[row["case"]])
        names = [str(config) for config in landscape.configs]
        config = row["config"].removeprefix("up ").partition(",")[0]
        if row["batch_size"] not in landscape.gemm_us or config not in names:
            continue
        theirs = np.median(landscape.gemm_us[row["batch_size"]][names.index(config)], axis=1)
        cells = [
            f"{own:6.1f} / {other:6.1f} = {own / other:.3f}"
            for own, other in zip((row["up_us"], row["down_us"]), theirs, strict=True)
        ]
        print(f"{row['case']:9} {row['batch_size']:6}  {config:20}  {'  '.join(cells)}")
    print("\ncase      tokens  SGLang's best   µs  bandwidth  rate")
    for case, name in FILES.items():
        landscape = read_gemm_times(args.landscapes / name)
        for tokens in landscape.batch_sizes:
            us = landscape.best_us(tokens)
            problem = replace(CASES[case], tokens=tokens)
            share = shares(problem, tokens, us, timed["ceilings"])
            print(f"{case:9} {tokens:6} {us:20.1f} {share['bandwidth_share']:9.3f} "
                  f"{share['rate_share']:6.3f}")  # fmt: skip


if __name__ == "__main__":
    main()
