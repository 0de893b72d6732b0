"""The GEMMs of SGLang's own kernel alone, under pairs with and without TMA: do they write what the
layer's call writes, for a routing that came after they were kept, and how long do they take.

    python benchmarks/gpu/halves.py

needs a GPU with TMA, and SGLang. Beside their times, the layer's with the up config for both.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import torch

from autotune.backends.gpu.launches import Launch
from autotune.backends.gpu.measurer import GpuMeasurer, open_gpu
from autotune.backends.protocol import MeasurerOptions
from autotune.kernels.inputs import make_inputs, make_routing, make_weights
from autotune.spec.config import Config, ConfigPair
from autotune.spec.problem import KernelMode, Problem

QWEN = Problem(128, 8, 2048, 768, 1, kernel=KernelMode.SEPARATE)
PLAIN = Config(64, 64, 64, 16, 4, 3, use_tma=False)
WIDE = replace(PLAIN, block_size_n=128)
PAIRS = [
    ConfigPair(PLAIN, WIDE),
    ConfigPair(replace(PLAIN, use_tma=True), WIDE),
    ConfigPair(PLAIN, replace(WIDE, use_tma=True)),
    ConfigPair(replace(PLAIN, use_tma=True), replace(WIDE, use_tma=True)),
]
UNWRITTEN = -7.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch-size", type=int, nargs="+", default=(64, 1024))
    args = parser.parse_args()
    measurer = open_gpu(0, MeasurerOptions(cache_dir=Path(".cache"), provider="sglang"))
    for tokens in args.batch_size:
        problem = replace(QWEN, tokens=tokens)
        for pair in PAIRS:
            print(f"{tokens:5} {pair}: {rewritten(measurer, problem, pair)}", flush=True)
            print(f"      {times(measurer, problem, pair)}", flush=True)
    measurer.close()


def rewritten(measurer: GpuMeasurer, problem: Problem, pair: ConfigPair) -> str:
    """Feed the GEMMs another routing, and have them write once more."""
    site = measurer.provider.site
    inputs = make_inputs(problem, make_weights(problem, site.target, site.name), site.target)
    layer = measurer.provider.prepare(inputs)
    layer.route(make_routing(problem, 0, inputs.x.device))
    halves = layer.halves(pair)
    layer.route(make_routing(problem, 3, inputs.x.device))
    halves.feed()
    words = []
    for name, half in (("up", halves.up), ("down", halves.down)):
        launch: Launch = half.__self__  # type: ignore[attr-defined]
        c = launch.args[launch.kernel.arg_names.index("c_ptr")]
        c = c.view(-1, c.shape[-1])
        right = c.clone()
        c.fill_(UNWRITTEN)
        half()
        rows = (c != UNWRITTEN).any(dim=1)
        is_right = int(rows.sum()) == problem.tokens * problem.top_k
        is_right = is_right and torch.equal(c[rows], right[rows])
        words.append(f"{name} {'as the layer' if is_right else 'WRONG'}")
    return ", ".join(words)


def times(measurer: GpuMeasurer, problem: Problem, pair: ConfigPair) -> str:
    """Return µs of each GEMM, and of the layer under one config."""
    alone = measurer.measure(problem, pair)
    one = replace(pair.up, use_tma=None)
    layer = measurer.measure(replace(problem, kernel=KernelMode.FUSED), one)
    if alone.measurement is None or layer.measurement is None:
        return alone.reason or layer.reason
    up, down = alone.measurement.up_us, alone.measurement.down_us
    means = [sum(us) / len(us) for us in (up, down)]
    whole = layer.measurement.geomean_us
    return f"up {means[0]:.1f} µs, down {means[1]:.1f}; the layer with {one}: {whole:.1f}"


if __name__ == "__main__":
    main()
