"""Where our kernel's times differ from SGLang's, does an SM hold as many blocks of each?

    python benchmarks/gpu/blocks.py SGLANG \\
        benchmarks/landscapes/qwen3-30b-a3b_tp1_bf16_separate.npz \\
        benchmarks/landscapes/sglang/qwen3-30b-a3b_tp1_bf16.npz

SGLANG is a folder with SGLang's package (written for 0.5.23; an unpacked wheel will do), of which
the source of ``fused_moe_kernel`` is read. It is compiled for SM90 by the Triton that is installed,
without a GPU: take the version that the recordings are of. Our resources are those of the recorded
binaries. Compared are the configs that both measured whole, up and down GEMM each, without TMA.
"""

from __future__ import annotations

import argparse
import ast
import importlib.util
import os
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.runtime.errors import OutOfResources

from autotune.backends.replay.recording_format import Recording, read_recording
from autotune.kernels.compile import usage_of_cubin
from autotune.spec.binary import BOTH, Which, gemm_shape
from autotune.spec.config import Config, ConfigPair
from autotune.spec.measurement import Measurement, Resources
from autotune.spec.occupancy import blocks_per_sm
from autotune.spec.problem import Problem
from autotune.studies.outcome import Outcome

sys.path.insert(0, str(Path(__file__).parents[1] / "landscapes"))

from gemm_times import read_gemm_times

SOURCE = "sglang/kernels/ops/moe/fused_moe_triton_kernels.py"
KERNEL = "fused_moe_kernel"
ONE = ("stride_ak", "stride_bk", "stride_cn", "stride_ask", "stride_bsk")
NONE = ("a_desc", "b_desc", "bias_ptr", "add_mask_ptr", "a_scale_ptr", "b_scale_ptr")
DIVISIBLE = ("N", "K", "stride_am", "stride_be", "stride_bn", "stride_cm", "num_valid_tokens", "EM")
"""Of the kernel's parameters: what Triton makes a constant, and what it knows to be divisible by
16, where SGLang launches it for bf16."""
NEAR = 1.05
"""Configs within so much of SGLang's fastest are shown."""
PERCENTILES = (2, 5, 25, 50, 75, 95, 98)


@dataclass(frozen=True)
class Pair:
    """One GEMM of one config on both kernels."""

    config: Config
    which: Which
    ours_over_theirs: float
    """Of the medians."""
    over_best: float
    """Of both GEMMs on SGLang's kernel, over the fastest config's there."""
    ours: Resources
    theirs: Resources
    our_blocks: int
    their_blocks: int


@cache
def kernel_of(folder: Path) -> Any:
    """The JIT function alone: the file's imports need the whole engine."""
    tree = ast.parse((folder / SOURCE).read_text())
    kept = [
        node
        for node in tree.body
        if isinstance(node, ast.FunctionDef)
        and any(ast.unparse(decorator) == "triton.jit" for decorator in node.decorator_list)
    ]
    head = "import triton\nimport triton.language as tl\n\n"
    with tempfile.TemporaryDirectory() as made:
        path = Path(made) / "engine_kernel_source.py"  # Triton reads it while it decorates
        path.write_text(head + "\n\n".join(ast.unparse(node) for node in kept))
        return getattr(_imported(path), KERNEL)


def _imported(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def their_resources(folder: Path, problem: Problem, job: tuple[Config, Which]) -> Resources | None:
    """SGLang's binary, as it launches it for bf16; None where Triton fails on it."""
    config, which = job
    kernel, shape = kernel_of(folder), gemm_shape(problem, which)
    constants: dict[str, Any] = {
        **{parameter.name: 0 for parameter in kernel.params if parameter.is_constexpr},
        **dict.fromkeys(ONE, 1),
        **dict.fromkeys(NONE, None),
        "BLOCK_SIZE_M": config.block_size_m,
        "BLOCK_SIZE_N": config.block_size_n,
        "BLOCK_SIZE_K": config.block_size_k,
        "GROUP_SIZE_M": config.group_size_m,
        "MUL_ROUTED_WEIGHT": which == "down",
        "top_k": problem.top_k if which == "up" else 1,
        "compute_type": tl.bfloat16,
        "even_Ks": shape.k % config.block_size_k == 0,
    }
    names = [parameter.name for parameter in kernel.params]
    signature = {name: _type_of(name, constants) for name in names}
    wide = [n for n in names if signature[n].startswith("*") or n in DIVISIBLE]
    source = ASTSource(
        fn=kernel,
        signature=signature,
        constexprs={(names.index(n),): value for n, value in constants.items() if n in names},
        attrs={(names.index(n),): [["tt.divisibility", 16]] for n in wide if n not in constants},
    )
    options = {"num_warps": config.num_warps, "num_stages": config.num_stages}
    try:
        binary = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options)
    except (RuntimeError, OutOfResources):
        return None
    registers, stack = usage_of_cubin(binary.asm["cubin"])
    return Resources(registers, stack, binary.metadata.shared)


def _type_of(name: str, constants: dict[str, Any]) -> str:
    if name in constants:
        return "constexpr"
    if name in {"a_ptr", "b_ptr", "c_ptr"}:
        return "*bf16"
    if name == "topk_weights_ptr":
        return "*fp32"
    return "*i32" if name.endswith("_ptr") else "i32"


def our_results(recording: Recording) -> Iterator[tuple[Problem, Config, Resources, Measurement]]:
    """Of pairs of twice the same config, without TMA: one binary serves both GEMMs, where
    BLOCK_SIZE_K divides both K or neither; the recorded resources are its own."""
    for key, results in recording.studies.items():
        for pair, result in results.items():
            if (
                isinstance(pair, ConfigPair)
                and pair.up == pair.down
                and not pair.up.use_tma
                and result.outcome is Outcome.OK
                and result.measurement is not None
                and result.resources is not None
            ):
                bare = replace(pair.up, use_tma=None)
                yield key.problem, bare, result.resources, result.measurement


def _without_group(config: Config) -> Config:
    """GROUP_SIZE_M is a constant of SGLang's kernel, but nothing that takes registers."""
    return replace(config, group_size_m=1)


def pairs_of(folder: Path, ours: Path, theirs: Path, jobs: int) -> list[Pair]:
    recording, landscape = read_recording(ours), read_gemm_times(theirs)
    rows = {config: row for row, config in enumerate(landscape.configs)}
    found = [r for r in our_results(recording) if r[0].tokens in landscape.batch_sizes]
    found = [r for r in found if r[1] in rows]
    if not found:
        raise SystemExit("no config in common")
    bare = dict.fromkeys(_without_group(config) for _, config, _, _ in found)
    wanted = [(config, which) for config in bare for which in BOTH]
    compile_one = partial(their_resources, folder, found[0][0])
    with ProcessPoolExecutor(jobs) as pool:
        compiled = dict(zip(wanted, pool.map(compile_one, wanted), strict=True))
    pairs = []
    for problem, config, resources, measurement in found:
        halves = landscape.gemm_us[problem.tokens][rows[config]]
        total = landscape.median_us(problem.tokens)[rows[config]]
        over_best = float(total / landscape.best_us(problem.tokens))
        for number, which in enumerate(BOTH):
            us = measurement.up_us if which == "up" else measurement.down_us
            ratio = float(np.median(us) / np.median(halves[number]))
            their_binary = compiled[_without_group(config), which]
            if their_binary is None or not np.isfinite(ratio):
                continue
            blocks = [
                blocks_per_sm(r, config.num_warps, recording.device) or 0
                for r in (resources, their_binary)
            ]
            pairs.append(Pair(config, which, ratio, over_best, resources, their_binary, *blocks))
    return pairs


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("sglang", type=Path, help="folder that holds the package")
    parser.add_argument("ours", type=Path, help="record --kernel separate, bf16")
    parser.add_argument("theirs", type=Path, help="in landscapes/sglang")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    args = parser.parse_args()
    pairs = pairs_of(args.sglang, args.ours, args.theirs, args.jobs)
    print(f"Triton {triton.__version__}, {len(pairs)} GEMMs; ours / theirs at percentiles "
          f"{', '.join(map(str, PERCENTILES))}:")  # fmt: skip
    for words, chosen in (
        ("as many blocks", [p for p in pairs if p.our_blocks == p.their_blocks]),
        ("ours fewer", [p for p in pairs if p.our_blocks < p.their_blocks]),
        ("ours more", [p for p in pairs if p.our_blocks > p.their_blocks]),
    ):
        ratios = [pair.ours_over_theirs for pair in chosen]
        cells = " ".join(f"{r:.3f}" for r in np.percentile(ratios, PERCENTILES)) if ratios else ""
        print(f"{words:15} {len(chosen):5}  {cells}")
    for pair in pairs:
        if pair.over_best < NEAR and pair.our_blocks != pair.their_blocks:
            print(f"{pair.config!s:24} {pair.which:4} ours / theirs {pair.ours_over_theirs:.3f}, "
                  f"registers {pair.ours.registers} / {pair.theirs.registers}, "
                  f"blocks {pair.our_blocks} / {pair.their_blocks}")  # fmt: skip
    more = [pair.ours.registers - pair.theirs.registers for pair in pairs]
    cells = " ".join(f"{r:+.0f}" for r in np.percentile(more, PERCENTILES))
    print(f"registers, ours less theirs: {cells}")


if __name__ == "__main__":
    main()
