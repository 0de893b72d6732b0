"""What an engine launches for a config, and whether a process without a GPU can compile it.

    python benchmarks/gpu/engine_launches.py --out DIR vllm sglang   # needs a GPU and the engines

For three layers the engine's own call runs once with a config, while every call of a jitted
``fused_moe_kernel…`` is written down: module, name, argument types, constants. Then it runs with
other configs and launches none of them: what it costs to ask an engine. Last, a process that sees
no GPU imports each kernel from the engine's module, compiles it from what was written down, and
compares Triton's hash of the entry with that of the engine's launch.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import torch
import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.runtime.driver import driver
from triton.runtime.jit import JITFunction, MockTensor

from autotune.backends.gpu.measurer import open_gpu
from autotune.backends.protocol import MeasurerOptions
from autotune.spec.config import Config
from autotune.spec.problem import Dtype, Problem

BLOCK = {"dtype": Dtype.FP8_W8A8, "block_shape": (128, 128)}
CASES = {
    "Qwen3-30B bf16, 64 tokens": (Problem(128, 8, 2048, 768, 64), Config(64, 64, 64, 8, 4, 3)),
    "Qwen3-30B bf16, 4096 tokens": (Problem(128, 8, 2048, 768, 4096), Config(64, 64, 64, 8, 4, 3)),
    "DeepSeek-V3 TP8 fp8, 512 tokens": (
        Problem(256, 8, 7168, 256, 512, **BLOCK),
        Config(64, 128, 128, 8, 4, 3),
    ),
}
TYPES = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}


class Recorder:
    """Writes down the launches of the engines' GEMMs; while ``is_dry`` it holds them back."""

    def __init__(self) -> None:
        self.is_dry = False
        self.launches: list[dict[str, Any]] = []
        self._run = JITFunction.run
        recorder = self

        def run(kernel: Any, *args: Any, grid: Any, warmup: bool, **keywords: Any) -> Any:
            is_gemm = kernel.fn.__name__.startswith("fused_moe_kernel")
            if is_gemm and recorder.is_dry:
                recorder.launches.append({})
                return None
            binary = recorder._run(kernel, *args, grid=grid, warmup=warmup, **keywords)
            if is_gemm:
                recorder.launches.append(
                    {
                        "module": kernel.fn.__module__,
                        "name": kernel.fn.__name__,
                        "args": [_written(value) for value in args],
                        "keywords": {name: _written(v) for name, v in keywords.items()},
                        "hash": binary.hash,
                    }
                )
            return binary

        JITFunction.run = run


def _written(value: Any) -> list[Any]:
    if value is None or isinstance(value, bool | int | float | str):
        return ["value", value]
    if isinstance(value, torch.Tensor):
        return ["tensor", str(value.dtype).removeprefix("torch."), value.data_ptr() % 16 == 0]
    if isinstance(value, triton.language.dtype):
        return ["dtype", TYPES.get(value.name, value.name)]
    raise TypeError(f"no argument that this script knows: {type(value)}")


def _read(written: list[Any]) -> Any:
    kind, value = written[:2]
    if kind == "tensor":
        return MockTensor(getattr(torch, value))
    return getattr(tl, value) if kind == "dtype" else value


def record(provider: str, out: Path) -> None:
    recorder = Recorder()
    options = MeasurerOptions(cache_dir=out / "cache", provider=provider)
    began = time.monotonic()
    measurer = open_gpu(0, options, instances=1)
    print(f"{provider}: opened in {time.monotonic() - began:.1f} s", flush=True)
    found = {}
    for name, (problem, config) in CASES.items():
        layer = measurer._prepare(problem).layer
        recorder.launches.clear()
        layer.run(config)
        torch.cuda.synchronize()
        found[name] = list(recorder.launches)
        recorder.is_dry = True
        ms = []
        for stages in (2, 3, 4, 5) * 5:
            began = time.perf_counter()
            layer.run(replace(config, num_stages=stages))
            ms.append(1e3 * (time.perf_counter() - began))
            torch.cuda.synchronize()
        recorder.is_dry = False
        print(
            f"{provider}, {name}: {len(found[name])} GEMMs; asked without a launch in "
            f"{median(ms):.2f} ms (median of {len(ms)})",
            flush=True,
        )
    (out / f"launches_{provider}.json").write_text(json.dumps(found, indent=1))
    measurer.close()


class NoGpu:
    """The part of a Triton driver that compiling asks for."""

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", 90, 32)

    def get_current_device(self) -> str:
        return "none"

    def get_current_stream(self, device: object) -> int:
        return 0


def compile_written(file: Path) -> None:
    driver.set_active(NoGpu())
    for name, launches in json.loads(file.read_text()).items():
        for launch in launches:
            began = time.monotonic()
            kernel = getattr(importlib.import_module(launch["module"]), launch["name"])
            imported_s = time.monotonic() - began
            keywords = {name: _read(value) for name, value in launch["keywords"].items()}
            args = [_read(value) for value in launch["args"]]
            binary = kernel.warmup(*args, grid=(1,), **keywords)
            print(
                f"{file.stem}, {name}: import {imported_s:.1f} s, compile "
                f"{time.monotonic() - began - imported_s:.2f} s, "
                f"{'the same' if binary.hash == launch['hash'] else 'ANOTHER'} entry",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("providers", nargs="*", default=["vllm", "sglang"])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--record", help="one provider, in this process")
    parser.add_argument("--compile", type=Path, help="a file of launches, in this process")
    given = parser.parse_args()
    if given.record:
        record(given.record, given.out)
    elif given.compile:
        compile_written(given.compile)
    else:
        given.out.mkdir(parents=True, exist_ok=True)
        for provider in given.providers:
            inner = [sys.executable, __file__, "--out", str(given.out)]
            subprocess.run([*inner, "--record", provider], check=False)
            file = given.out / f"launches_{provider}.json"
            unseen = os.environ | {
                "CUDA_VISIBLE_DEVICES": "",
                "TRITON_CACHE_DIR": str(given.out / f"triton_{provider}"),
            }
            subprocess.run([*inner, "--compile", str(file)], env=unseen, check=False)


if __name__ == "__main__":
    main()
