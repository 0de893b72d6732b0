"""Measures the cost of one tile of our GEMM, apart from memory: the evidence of TILE_CLOCKS,
STEP_CLOCKS and OVERLAP in ``autotune.backends.estimate.constants``. Needs a CUDA GPU.

One expert, 4096 rows, 8192 columns and a K of a few steps: every operand stays in the L2. The
slope over K is the K step of one tile, the intercept at no step its fixed part; both in clocks
of an SM at ``--clock-mhz``, per tile (times the blocks of an SM: per wave).

    python benchmarks/estimate/tile_cost.py --clock-mhz 1980
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import torch
import triton

from autotune.kernels.launch import GemmOperands, launch_gemm
from autotune.spec.config import Config
from autotune.spec.device import Target
from autotune.spec.problem import Dtype, Problem

ROWS, COLUMNS = 4096, 8192
STEPS = (2, 4, 8)
TILES = (
    (16, 128, 128, 4),
    (64, 64, 64, 4),
    (64, 128, 64, 4),
    (64, 128, 64, 8),
    (128, 64, 64, 4),
    (128, 128, 64, 4),
    (128, 128, 64, 8),
    (128, 256, 64, 8),
)
STAGES = (2, 3, 4, 5)
DTYPES = {Dtype.BF16: torch.bfloat16, Dtype.FP8_W8A8: torch.float8_e4m3fn}


def tile_us(problem: Problem, config: Config) -> float:
    """Median time of one launch over its tiles, times the SMs."""
    kind = DTYPES[problem.dtype]
    k, n = problem.hidden, 2 * problem.intermediate
    rows = torch.arange(ROWS, device="cuda", dtype=torch.int32)
    ones = torch.ones(ROWS * 64, device="cuda")
    operands = GemmOperands(
        a=torch.randn(ROWS, k, device="cuda").to(kind),
        b=torch.randn(1, n, k, device="cuda").to(kind),
        c=torch.empty(ROWS, n, device="cuda", dtype=torch.bfloat16),
        a_scale=ones,
        b_scale=ones,
        b_zero=None,
        topk_weights=ones,
        # Blocks beyond the rows that are in use return before they read any of these.
        sorted_token_ids=rows,
        expert_ids=torch.zeros(ROWS, device="cuda", dtype=torch.int32),
        num_tokens_post_padded=torch.full((1,), ROWS, device="cuda", dtype=torch.int32),
    )
    major, minor = torch.cuda.get_device_capability()
    target = Target("cuda", 10 * major + minor)
    launch = lambda: launch_gemm(operands, problem, config, "up", target)  # noqa: E731
    launch_us = 1e3 * float(triton.testing.do_bench(launch, return_mode="median"))
    tiles = ROWS // config.block_size_m * (n // config.block_size_n)
    sms = torch.cuda.get_device_properties(0).multi_processor_count
    return launch_us * sms / tiles


def cases(dtype: Dtype) -> Iterator[Config]:
    for block_m, block_n, block_k, warps in TILES:
        for stages in STAGES:
            yield Config(block_m, block_n, block_k, 8, warps, stages)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--clock-mhz", type=float, default=1980.0)
    args = parser.parse_args()
    print(f"{torch.cuda.get_device_name()}, Triton {triton.__version__}")
    print("| dtype | config | fixed clocks a tile | clocks a K step |\n|---|---|---|---|")
    for dtype in DTYPES:
        block_shape = (128, 128) if dtype is Dtype.FP8_W8A8 else None
        for config in cases(dtype):
            clocks = []
            for steps in STEPS:
                k = config.block_size_k * steps
                problem = Problem(1, 1, k, COLUMNS // 2, ROWS, dtype, block_shape)
                try:
                    clocks.append(tile_us(problem, config) * args.clock_mhz)
                except triton.runtime.errors.OutOfResources:
                    break
            if len(clocks) == len(STEPS):
                step = (clocks[-1] - clocks[0]) / (STEPS[-1] - STEPS[0])
                print(f"| {dtype.value} | {config} | {clocks[0] - 2 * step:.0f} | {step:.0f} |")


if __name__ == "__main__":
    main()
