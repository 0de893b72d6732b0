"""How close the GEMMs come to what the GPU can do, ceilings measured in the same call.

For each case and batch size the configs of the given engine files are timed (up and down GEMM
alone, cold L2, ten routings) and the fastest is held against two ceilings: bytes that must be
read and written over the bandwidth of a large read, and FLOPs of the rows that there are over
the rate of a large matrix product of torch (cuBLAS).

    python benchmarks/gpu/quality.py --out quality.json --qwen FILE FILE --mixtral FILE …
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from autotune.backends.gpu.measurer import GpuMeasurer, open_gpu
from autotune.backends.protocol import MeasurerOptions
from autotune.engines import read_configs
from autotune.report.html.roofline import work_of
from autotune.spec.config import AnyConfig
from autotune.spec.problem import Dtype, KernelMode, Problem
from autotune.studies.pairs import completed_as_asked

CASES = {
    "qwen": Problem(128, 8, 2048, 768, 1, kernel=KernelMode.SEPARATE),
    "mixtral": Problem(8, 2, 4096, 7168, 1, kernel=KernelMode.SEPARATE),
    "deepseek": Problem(
        257,
        9,
        7168,
        256,
        1,
        Dtype.FP8_W8A8,
        block_shape=(128, 128),
        fused_shared_experts=1,
        kernel=KernelMode.SEPARATE,
    ),
}
BATCH_SIZES = (16, 64, 128, 256, 512, 1024, 2048, 4096)
_SIDE = 8192
_READ_BYTES = 4 * 2**30


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    for name in CASES:
        parser.add_argument(f"--{name}", type=Path, nargs="+", metavar="FILE", default=())
    parser.add_argument("--batch-size", type=int, nargs="+", default=BATCH_SIZES)
    args = parser.parse_args()
    ceilings = {"read_gb_s": read_gb_s(), **{d: rate_tflops(d) for d in ("bf16", "fp8")}}
    print(ceilings)
    measurer = open_gpu(0, MeasurerOptions(cache_dir=Path(".cache")))
    rows = []
    for name in (name for name in CASES if getattr(args, name)):
        for tokens in args.batch_size:
            row = best_of(measurer, name, tokens, getattr(args, name))
            rows.append({**row, **shares(CASES[name], tokens, row["us"], ceilings)})
            print(rows[-1], flush=True)
            args.out.write_text(json.dumps({"ceilings": ceilings, "rows": rows}, indent=1) + "\n")


def best_of(measurer: GpuMeasurer, name: str, tokens: int, files: list[Path]) -> dict[str, Any]:
    """The fastest of the files' configs for the batch size: both GEMMs' µs, and which."""
    problem = replace(CASES[name], tokens=tokens)
    found = []
    for file in files:
        pair = completed_as_asked(problem, measurer.device, nearest(file, tokens))
        result = measurer.measure(problem, pair)
        if result.measurement is not None:
            halves = result.measurement.up_us, result.measurement.down_us
            found.append((result.measurement.geomean_us, str(pair), halves, file.name))
    us, config_words, (up, down), file_name = min(found)
    return {
        "case": name,
        "batch_size": tokens,
        "us": round(us, 2),
        "up_us": round(statistics.median(up), 2),
        "down_us": round(statistics.median(down), 2),
        "config": config_words,
        "file": file_name,
    }


def nearest(file: Path, tokens: int) -> AnyConfig:
    """The config that the engines would take from the file for a batch size."""
    table = read_configs(file)
    return table[min(table, key=lambda key: abs(key - tokens))]


def shares(
    problem: Problem, tokens: int, us: float, ceilings: dict[str, float]
) -> dict[str, float]:
    """Achieved share of both ceilings."""
    problem = replace(problem, tokens=tokens)
    work = work_of(problem)
    rate = ceilings["fp8" if problem.dtype is Dtype.FP8_W8A8 else "bf16"]
    return {
        "bandwidth_share": round(work.bytes / us / 1e3 / ceilings["read_gb_s"], 3),
        "rate_share": round(work.flops / us / 1e6 / rate, 3),
    }


def read_gb_s() -> float:
    """Of a sum over 4 GiB."""
    data = torch.ones(_READ_BYTES // 4, dtype=torch.float32, device="cuda")
    return _READ_BYTES / _median_s(data.sum) / 1e9


def rate_tflops(dtype: str) -> float:
    """Of a square product, random operands (zeros run faster than real data)."""
    a = torch.randn(_SIDE, _SIDE, device="cuda")
    if dtype == "bf16":
        x, y = a.bfloat16(), a.T.contiguous().bfloat16()
        seconds = _median_s(lambda: x @ y)
    else:
        one = torch.ones((), device="cuda")
        x8, y8 = a.to(torch.float8_e4m3fn), a.to(torch.float8_e4m3fn).T
        seconds = _median_s(lambda: torch._scaled_mm(x8, y8, one, one, out_dtype=torch.bfloat16))
    return 2 * _SIDE**3 / seconds / 1e12


def _median_s(work: Callable[[], object], repeats: int = 15) -> float:
    begin = torch.cuda.Event(enable_timing=True)
    end = torch.cuda.Event(enable_timing=True)
    times = []
    for _ in range(repeats + 3):
        begin.record()
        work()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end) / 1e3)
    return statistics.median(times[3:])


if __name__ == "__main__":
    main()
