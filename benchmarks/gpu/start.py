"""What passes before the first measurement on an engine's kernel, step by step, in one process.

    python benchmarks/gpu/start.py vllm sglang --model Qwen/Qwen3-30B-A3B   # needs a GPU

For each provider a process of its own does what a run's device process does, one after the other,
and prints the seconds of each step: a run does some of it side by side.
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from autotune.backends.protocol import INSTANCES, MeasurerOptions, guessed_spaces
from autotune.settings import ModelSettings
from autotune.tuning.jobs import jobs_of, model_shape
from autotune.tuning.open_studies import promising

GUESSES = 6


@contextmanager
def step(name: str) -> Iterator[None]:
    began, cpu = time.perf_counter(), time.process_time()
    yield
    seconds, cpu_s = time.perf_counter() - began, time.process_time() - cpu
    print(f"  {seconds:7.2f} s ({cpu_s:6.2f} s of CPU time)  {name}", flush=True)


def steps(provider: str, model: ModelSettings, folder: Path, began: float) -> None:
    """Print each step's seconds; the process has just begun."""
    print(f"{provider}\n  {time.time() - began:7.2f} s  a process", flush=True)
    with step("import torch"):
        import torch
    with step("import our measurer and kernels"):
        from autotune.backends.gpu.measurer import GpuMeasurer
        from autotune.backends.gpu.providers import load_code, open_provider
        from autotune.backends.gpu.testbed import Testbed, take_device
    with step("import what the provider launches"):
        load_code(provider)
    options = MeasurerOptions(cache_dir=folder, provider=provider)
    with step("take the GPU"):
        testbed = Testbed(take_device(0, options), options, instances=INSTANCES)
    with step("its context: a first tensor"):
        torch.zeros(1, device=testbed.site.name)
        torch.cuda.synchronize()
    with step("open the provider"):
        measurer = GpuMeasurer(open_provider(provider, testbed.site), testbed)
    jobs = jobs_of(model_shape(model), model, (provider,), providers={provider: provider})
    problems = [job.problem for job in jobs]
    with step(f"spaces and guesses of {len(problems)} batch sizes"):
        spaces = guessed_spaces(measurer, problems)
    with step("weights, and what the engine launches at the first batch size"):
        measurer.own_config(problems[0])
    with step("what it launches at the others"):
        own = [measurer.own_config(problem) for problem in problems]
    with step(f"what its own config and {GUESSES} others of each compile"):
        favourites = promising(spaces, GUESSES)
        for problem, config, first in zip(problems, own, favourites, strict=True):
            configs = [*([] if config is None else [config]), *first]
            measurer.binaries(problem, tuple(configs))
    for problem, config in list(zip(problems, own, strict=True))[:2]:
        if config is not None:
            for name in ("measure, compiling here", "measure again"):
                with step(f"{name}: {problem.tokens} tokens"):
                    measurer.measure(problem, config)
    measurer.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("providers", nargs="+")
    parser.add_argument("--model", default="Qwen/Qwen3-30B-A3B")
    parser.add_argument("--tp-size", type=int, default=1)
    parser.add_argument("--cache-dir", type=Path, default=Path(".cache"))
    args = parser.parse_args()
    model = ModelSettings(model=args.model, tp_size=args.tp_size)
    context = multiprocessing.get_context("spawn")
    for provider in args.providers:
        given = (provider, model, args.cache_dir, time.time())
        process = context.Process(target=steps, args=given)
        process.start()
        process.join()


if __name__ == "__main__":
    main()
