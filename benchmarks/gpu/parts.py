"""Where a layer's time goes: µs of each of its kernels, and what a profiler says of the GEMMs.

    python benchmarks/gpu/parts.py --out DIR --qwen FILE --mixtral FILE --deepseek FILE
    python benchmarks/gpu/parts.py --out DIR --qwen FILE --batch-size 4096 --ncu

For each case and batch size the layer runs with the config of the engine file, ten routings, cold
L2. ``parts.json`` gets the median µs of each kernel (PyTorch's profiler). With ``--ncu`` each
(case, batch size) is run once under Nsight Compute, which must be on the PATH; DIR gets what it
says of the two GEMMs as ``CASE_TOKENS.txt``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from quality import CASES, nearest

from autotune.backends.gpu.testbed import device_of
from autotune.backends.protocol import INSTANCES, MeasurerOptions
from autotune.kernels.inputs import make_inputs, make_routing, make_weights
from autotune.kernels.moe import make_buffers, run_moe
from autotune.kernels.timing import CudaClock
from autotune.spec.problem import KernelMode
from autotune.studies.pairs import completed_as_asked

BATCH_SIZES = (16, 256, 1024, 4096)
SECTIONS = (
    "SpeedOfLight",
    "ComputeWorkloadAnalysis",
    "MemoryWorkloadAnalysis",
    "LaunchStats",
    "Occupancy",
    "WarpStateStats",
)
_OURS_ALONE = ("FillFunctor", "Memcpy")
"""What empties the L2 cache and sets the routing: no part of a layer."""


class Layer:
    """One model's weights, and its layer at any batch size, whole-layer kernels."""

    def __init__(self, name: str) -> None:
        options = MeasurerOptions(cache_dir=Path(".cache"))
        properties = torch.cuda.get_device_properties(0)
        self._device = device_of(properties, cold_l2=options.cold_l2)
        self._problem = replace(CASES[name], kernel=KernelMode.FUSED)
        self._weights = make_weights(self._problem, self._device.target, "cuda:0")
        self._clock = CudaClock(properties.L2_cache_size)

    def call(self, tokens: int, file: Path) -> Callable[[int], None]:
        """Runs the layer with a routing instance and an empty L2; ready to be timed."""
        problem = replace(self._problem, tokens=tokens)
        config = completed_as_asked(problem, self._device, nearest(file, tokens))
        inputs = make_inputs(problem, self._weights, self._device.target)
        buffers = make_buffers(inputs)
        routings = [make_routing(problem, i, inputs.x.device) for i in range(INSTANCES)]

        def run(instance: int) -> None:
            inputs.set_routing(routings[instance])
            self._clock.flush()
            run_moe(inputs, buffers, config)
            torch.cuda.synchronize()

        for instance in range(2):
            run(instance)
        return run

    def parts_us(self, tokens: int, file: Path) -> dict[str, float]:
        """Median µs of each kernel of a layer, under its own name; both GEMMs in launch order."""
        run = self.call(tokens, file)
        kinds = [torch.profiler.ProfilerActivity.CUDA]
        with torch.profiler.profile(activities=kinds) as profiler:
            for instance in range(INSTANCES):
                run(instance)
        found: dict[str, list[float]] = defaultdict(list)
        gemms = 0
        events = [e for e in profiler.events() if e.device_type == torch.autograd.DeviceType.CUDA]
        for event in sorted(events, key=lambda event: event.time_range.start):
            name = event.name
            if "moe_gemm" in name:
                name, gemms = ("up GEMM", "down GEMM")[gemms % 2], gemms + 1
            found[name].append(event.time_range.elapsed_us())
        return {
            name: round(statistics.median(times), 2)
            for name, times in found.items()
            if not any(word in name for word in _OURS_ALONE)
        }


def under_ncu(out: Path, name: str, tokens: int, file: Path) -> None:
    """This script again, once, under Nsight Compute: the GEMMs of its last call."""
    inner = [sys.executable, __file__, "--out", str(out), f"--{name}", str(file)]
    command = ["ncu", "--clock-control", "none", "--kernel-name", "regex:moe_gemm"]
    command += [word for section in SECTIONS for word in ("--section", section)]
    command += ["--launch-skip", "4", "--launch-count", "2"]
    command += [*inner, "--batch-size", str(tokens), "--once"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    path = out / f"{name}_{tokens}.txt"
    path.write_text(done.stdout + done.stderr, encoding="utf-8")
    print(path, "exit code", done.returncode, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    for name in CASES:
        parser.add_argument(f"--{name}", type=Path, metavar="FILE")
    parser.add_argument("--batch-size", type=int, nargs="+", default=BATCH_SIZES)
    parser.add_argument("--ncu", action="store_true", help="Nsight Compute on the two GEMMs")
    parser.add_argument("--once", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    rows = []
    for name in (name for name in CASES if getattr(args, name)):
        file = getattr(args, name)
        layer = None if args.ncu else Layer(name)
        for tokens in args.batch_size:
            if layer is None:
                under_ncu(args.out, name, tokens, file)
            elif args.once:
                layer.call(tokens, file)(2)
            else:
                rows.append({"case": name, "batch_size": tokens, **layer.parts_us(tokens, file)})
                print(rows[-1], flush=True)
                (args.out / "parts.json").write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
