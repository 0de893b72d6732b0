"""Compiles every dtype's smallest config, and one of 128 rows, for the targets of argv
(80, gfx942, …) and prints which matrix instructions came out, a line of JSON for each compile: run
without TRITON_INTERPRET."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import replace

from autotune.kernels.compile import compile_gemm
from autotune.spec.config import Config
from autotune.spec.device import Device, DeviceKind, Target
from autotune.spec.limits import why_no_dtype
from autotune.spec.measurement import CompileFailure
from autotune.spec.problem import Dtype, Problem
from autotune.studies.space import moe_space

SHARED_BYTES = {"80": 166912, "89": 101376, "90": 232448, "100": 232448, "gfx942": 65536}
QWEN = Problem(experts=128, top_k=8, hidden=2048, intermediate=768, tokens=64)
BLOCKS: dict[Dtype, tuple[int, int]] = {
    Dtype.FP8_W8A8: (128, 128),
    Dtype.INT4_W4A16: (0, 128),
}
INSTRUCTION = re.compile(
    r"wgmma\.mma_async[\w.:]*|mma\.sync[\w.:]*|tcgen05\.mma\.[\w.:]*|v_mfma_\w+"
)


def configs(problem: Problem, device: Device) -> dict[str, Config]:
    """128 rows: the smallest that keeps two warp groups of 64 rows busy. The largest has the same
    instructions, and takes the compiler three times as long."""
    space = moe_space(problem, device).configs
    return {
        "smallest": min(space, key=_size),
        "128 rows": min((c for c in space if _fills_two_groups(c)), key=_size),
    }


def _fills_two_groups(config: Config) -> bool:
    return config.num_warps == 8 and config.block_size_m == 128 and config.block_size_n >= 64


def _size(config: Config) -> tuple[int, ...]:
    tile = config.block_size_m * config.block_size_n
    return tile, config.block_size_k, config.num_stages, config.num_warps


def describe(problem: Problem, config: Config, target: Target) -> dict[str, object]:
    compiled = compile_gemm(problem, config, target, "up")
    if isinstance(compiled, CompileFailure):
        return {"config": str(config), "reason": compiled.reason}
    found = set(INSTRUCTION.findall(compiled.assembly))
    return {
        "config": str(config),
        "instructions": sorted(found),
        "shared_bytes": compiled.resources.shared_bytes,
    }


def describe_all(arch: str) -> Iterator[tuple[str, dict[str, object]]]:
    """Dtype and what came of one size, compile by compile."""
    target = Target("cuda", int(arch)) if arch.isdigit() else Target("hip", arch, 64)
    device = Device(DeviceKind.ESTIMATE, arch, target, SHARED_BYTES[arch], "3.9.0")
    for dtype in Dtype:
        if reason := why_no_dtype(dtype, target):
            yield dtype.value, {"missing": reason}
            continue
        problem = replace(QWEN, dtype=dtype, block_shape=BLOCKS.get(dtype))
        for size, config in configs(problem, device).items():
            yield dtype.value, {size: describe(problem, config, target)}


if __name__ == "__main__":
    for arch in sys.argv[1:]:
        for dtype, answer in describe_all(arch):
            sys.stdout.write(f"{json.dumps([arch, dtype, answer])}\n")
            sys.stdout.flush()
