"""What asking an engine costs the process that measures: what it launches for a config, and what
that compiles.

    python benchmarks/gpu/asking.py vllm sglang [--profile]    # needs a GPU and the engines

For each provider a process of its own asks about configs of three batch sizes of Qwen3-30B-A3B,
and prints the milliseconds of each part, on the clock and of CPU time; with ``--profile``, which
calls these went to. Before that, all that the engine launches beside its GEMMs is loaded.
"""

from __future__ import annotations

import argparse
import cProfile
import multiprocessing
import pstats
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

from autotune.backends.protocol import MeasurerOptions
from autotune.spec.config import Config
from autotune.spec.problem import Problem

LAYER = Problem(experts=128, top_k=8, hidden=2048, intermediate=768, tokens=1)
TOKENS = (16, 512, 4096)
CONFIGS = tuple(
    Config(*block, g, w, s)
    for block, g, w, s in product(
        ((16, 64, 64), (64, 64, 128), (128, 128, 64)), (1, 8), (4, 8), (2, 3, 4)
    )
)


def timed(name: str, call: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
    """Call it with each, print what one takes, and return what it returned."""
    began, cpu = time.perf_counter(), time.process_time()
    found = [call(item) for item in items]
    ms = 1000 * (time.perf_counter() - began) / len(items)
    cpu_ms = 1000 * (time.process_time() - cpu) / len(items)
    print(f"  {ms:7.2f} ms ({cpu_ms:6.2f} of CPU time)  {name}", flush=True)
    return found


def asked(provider: str, profile: bool) -> None:
    import torch

    from autotune.backends.gpu.launches import binaries_of
    from autotune.backends.gpu.measurer import open_gpu

    measurer = open_gpu(0, MeasurerOptions(cache_dir=Path(".cache"), provider=provider))
    problems = [replace(LAYER, tokens=tokens) for tokens in TOKENS]
    for problem in problems:
        measurer.binaries(problem, CONFIGS[:2])
    for problem in problems:
        print(f"{provider}, {problem.tokens} tokens", flush=True)
        layer: Any = measurer._testbed.tensors.layer(problem, measurer.provider)
        launches = timed("the engine's call, its GEMMs held back", layer.launches, CONFIGS)
        torch.cuda.synchronize()
        timed("the same again", layer.launches, CONFIGS)
        timed("what it compiles, written down by Triton", binaries_of, launches)
        ask = partial(measurer.binaries, problem)
        timed("as a run asks, one by one", ask, [(config,) for config in CONFIGS])
        timed("as a run asks, all at once", ask, [CONFIGS])
    if profile:
        with cProfile.Profile() as calls:
            for problem in problems:
                measurer.binaries(problem, CONFIGS)
        pstats.Stats(calls).sort_stats("tottime").print_stats(25)
    measurer.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("providers", nargs="+")
    parser.add_argument("--profile", action="store_true")
    args = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    for provider in args.providers:
        process = context.Process(target=asked, args=(provider, args.profile))
        process.start()
        process.join()


if __name__ == "__main__":
    main()
