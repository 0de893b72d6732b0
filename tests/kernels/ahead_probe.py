"""Compiles what test_ahead.py asks about and prints it as JSON: run without TRITON_INTERPRET."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict, replace
from pathlib import Path

from autotune.kernels.compile import (
    Compiled,
    compile_gemm,
    usage_by_cuobjdump,
    usage_of_cubin,
)
from autotune.kernels.gemm import moe_gemm_kernel
from autotune.spec.binary import Which, binary_key
from autotune.spec.config import Config
from autotune.spec.device import Target
from autotune.spec.measurement import CompileFailure
from autotune.spec.problem import Dtype, Problem

H200 = Target("cuda", 90)
QWEN = Problem(experts=128, top_k=8, hidden=2048, intermediate=768, tokens=64)
DEEPSEEK = Problem(257, 9, 7168, 256, 64, Dtype.FP8_W8A8, (128, 128))
SWAPPED, WITH_TMA = Config(16, 64, 128, 1, 4, 3), Config(64, 64, 64, 8, 4, 3, use_tma=True)
SMALL, WIDE = Config(16, 32, 64, 1, 4, 3), Config(64, 64, 64, 8, 4, 3)

CASES: dict[str, tuple[Problem, Config, Target, Which]] = {
    "up": (QWEN, SMALL, H200, "up"),
    "down": (QWEN, SMALL, H200, "down"),
    "other batch": (replace(QWEN, tokens=1), SMALL, H200, "up"),
    "other order": (QWEN, replace(SMALL, group_size_m=64), H200, "up"),
    "one token, one choice": (replace(QWEN, tokens=1, top_k=1), SMALL, H200, "up"),
    "expert parallel": (replace(QWEN, experts=16, ep_size=8), SMALL, H200, "up"),
    "tail": (replace(QWEN, hidden=2064), SMALL, H200, "up"),
    "odd": (replace(QWEN, hidden=2056), SMALL, H200, "up"),
    "wide": (QWEN, WIDE, H200, "up"),
    "block fp8": (DEEPSEEK, WIDE, H200, "up"),
    "block fp8, down": (DEEPSEEK, WIDE, H200, "down"),
    "int4": (replace(QWEN, dtype=Dtype.INT4_W4A16, block_shape=(0, 128)), SMALL, H200, "up"),
    "int4, zero points": (
        replace(QWEN, dtype=Dtype.INT4_W4A16, block_shape=(0, 128), zero_points=True),
        SMALL,
        H200,
        "up",
    ),
    "TMA up": (QWEN, WITH_TMA, H200, "up"),
    "TMA down": (QWEN, WITH_TMA, H200, "down"),
    "TMA up, other batch": (replace(QWEN, tokens=1), WITH_TMA, H200, "up"),
    "TMA, block fp8": (DEEPSEEK, WITH_TMA, H200, "down"),
    "TMA, swapped": (DEEPSEEK, replace(SWAPPED, use_tma=True), H200, "down"),
    "TMA on Blackwell": (QWEN, WITH_TMA, Target("cuda", 100), "down"),
    "swapped": (DEEPSEEK, SWAPPED, H200, "up"),
    "swapped, one scale": (replace(DEEPSEEK, block_shape=None), SWAPPED, H200, "up"),
    "too narrow to swap": (DEEPSEEK, replace(SWAPPED, block_size_n=32), H200, "up"),
    "int8": (replace(QWEN, dtype=Dtype.INT8_W8A8), WIDE, H200, "up"),
    "int8 weights": (replace(QWEN, dtype=Dtype.INT8_W8A16), WIDE, H200, "up"),
    "spilling": (QWEN, Config(128, 128, 64, 1, 2, 2), H200, "up"),
    "Ampere": (QWEN, WIDE, Target("cuda", 80), "up"),
    "fp8 on Ampere": (DEEPSEEK, WIDE, Target("cuda", 80), "up"),
    "CDNA3": (QWEN, replace(WIDE, num_stages=2, waves_per_eu=2), Target("hip", "gfx942", 64), "up"),
}


def describe(problem: Problem, config: Config, target: Target, which: Which) -> dict[str, object]:
    compiled = compile_gemm(problem, config, target, which)
    if isinstance(compiled, CompileFailure):
        return {"reason": compiled.reason}
    return {
        "key": f"{target} {binary_key(problem, config, which)}",
        "hash": compiled.cache_hash,
        "resources": asdict(compiled.resources),
        "wgmma": compiled.assembly.count("wgmma.mma_async"),
        "TMA loads": compiled.assembly.count("cp.async.bulk.tensor"),
        "async copies": compiled.assembly.count("cp.async.cg"),
        "long divisions": compiled.assembly.count("div.s64") + compiled.assembly.count("div.u64"),
    }


def main() -> None:
    found: dict[str, object] = {name: describe(*case) for name, case in CASES.items()}
    again = compile_gemm(*CASES["wide"])
    assert isinstance(again, Compiled)
    found["seconds again"] = again.seconds
    found["usage"] = [
        {"read": usage_of_cubin(cubin), "said": usage_by_cuobjdump(cubin)}
        for cubin in map(Path.read_bytes, Path(os.environ["TRITON_CACHE_DIR"]).rglob("*.cubin"))
    ]
    memory = getattr(moe_gemm_kernel, "device_caches", None) or getattr(
        moe_gemm_kernel, "cache", {}
    )
    found["left in memory"] = len(memory)
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
