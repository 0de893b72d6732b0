"""Judges the time model's choices, on landscapes measured in full on an H200.

For each recorded batch size: the config that the model puts first, the best of its first ten,
and both engines' defaults, each as optimum / time (1 is perfect); Spearman's rank correlation
of modelled and measured times; model / measured time, median over configs. Once with resources
guessed before compiling (what orders the first trials), once with the compiler's.

All but one of the model's constants are datasheet figures and microbenchmarks (``halves.py`` has
the one). ``--doubt`` shows how much the choices depend on each of the latter.

    python benchmarks/estimate/judge.py
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest import mock

import numpy as np

from autotune.backends.compile_cache import BinaryCompiler
from autotune.backends.estimate import constants, gemm_costs, model
from autotune.backends.estimate.measurer import EstimateMeasurer
from autotune.backends.estimate.model import gemms_us
from autotune.backends.hardware import find_spec
from autotune.backends.routed_rows import routed_rows
from autotune.engines import ENGINES
from autotune.spec.arrays import Floats
from autotune.spec.binary import BOTH, binary_key
from autotune.spec.config import Config
from autotune.spec.measurement import CompileFailure, Resources, worse_of
from autotune.spec.problem import Dtype, Problem

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "landscapes"))

from gemm_times import GemmTimes, read_gemm_times  # noqa: E402

DEFAULT_LANDSCAPES = HERE.parent / "landscapes" / "sglang"
BINARIES = HERE / "binaries.json"
"""Registers, spilled bytes and shared bytes of each config's binaries (Triton 3.9.0, sm_90), or
why they do not compile. About 620 compiles: ten minutes on two cores."""
SPEC = find_spec("NVIDIA H200")
INSTANCES = 3
SMALLEST_TILE = 16
"""SGLang's shipped files hold BLOCK_SIZE_M 8, which no space of ours has."""
NEVER = Resources(registers=255, spill_bytes=10**6, shared_bytes=10**6)
"""Stands for a config that does not compile."""


@dataclass(frozen=True, slots=True)
class Case:
    """One recording of SGLang's kernel, and what the model is asked."""

    file: str
    label: str
    problem: Problem
    swaps_operands: bool
    """SGLang's fp8 kernel computes the transposed tile for BLOCK_SIZE_M < 64 <= BLOCK_SIZE_N, so
    that wgmma reads both tiles from shared memory: num_stages buffers, one more than ours."""


CASES = (
    Case(
        "qwen3-30b-a3b_tp1_bf16.npz",
        "Qwen3-30B bf16",
        Problem(experts=128, top_k=8, hidden=2048, intermediate=768, tokens=1),
        swaps_operands=False,
    ),
    Case(
        "deepseek-v3_tp8_fp8block.npz",
        "DeepSeek-V3 fp8",
        Problem(257, 9, 7168, 256, 1, Dtype.FP8_W8A8, block_shape=(128, 128)),
        swaps_operands=True,
    ),
)


@dataclass(frozen=True, slots=True)
class Row:
    """The judgement of one batch size; every share is optimum / time."""

    label: str
    tokens: int
    optimum_us: float
    choice: Config
    choice_share: float
    top_ten_share: float
    default_shares: dict[str, float]
    """Engine → its default config; NaN where the landscape lacks it."""
    rank_correlation: float
    scale: float


def judge_case(
    case: Case, landscape: GemmTimes, resources: Sequence[Resources] | None = None
) -> list[Row]:
    """One row for each recorded batch size. ``resources`` in the order of the configs."""
    return [_row(case, landscape, tokens, resources) for tokens in landscape.batch_sizes]


def mean_share(rows: Sequence[Row]) -> float:
    """Return the mean share of the model's first choice, over all rows."""
    return float(np.mean([row.choice_share for row in rows]))


def _row(
    case: Case, landscape: GemmTimes, tokens: int, resources: Sequence[Resources] | None
) -> Row:
    problem = replace(case.problem, tokens=tokens)
    measured = landscape.median_us(tokens)
    return row_of(case.label, problem, landscape.configs, measured, resources)


def row_of(
    label: str,
    problem: Problem,
    configs: Sequence[Config],
    measured: Floats,
    resources: Sequence[Resources] | None,
) -> Row:
    """``measured`` in µs and ``resources`` in the order of ``configs``; NaN for what failed."""
    modelled = modelled_us(problem, configs, resources)
    share = np.nan_to_num(np.nanmin(measured) / measured)  # 0 for what failed or was stopped
    order = np.argsort(modelled, kind="stable")
    both = np.isfinite(measured) & np.isfinite(modelled)
    return Row(
        label=label,
        tokens=problem.tokens,
        optimum_us=float(np.nanmin(measured)),
        choice=configs[int(order[0])],
        choice_share=float(share[order[0]]),
        top_ten_share=float(share[order[:10]].max()),
        default_shares=_default_shares(problem, configs, share),
        rank_correlation=_spearman(modelled[both], measured[both]),
        scale=float(np.median(modelled[both] / measured[both])),
    )


def modelled_us(
    problem: Problem, configs: Sequence[Config], resources: Sequence[Resources] | None
) -> Floats:
    """Both GEMMs, as recorded; infinite for what may not be chosen."""
    routings = [routed_rows(problem, instance, 0) for instance in range(INSTANCES)]
    of_both = dict.fromkeys(BOTH, resources) if resources else None
    times = gemms_us(problem, configs, SPEC, routings, of_both).sum(axis=1).mean(axis=0)
    small = np.array([config.block_size_m < SMALLEST_TILE for config in configs])
    broken = np.array([r is NEVER for r in resources]) if resources else np.zeros_like(small)
    return np.where(small | broken, np.inf, times)


def _default_shares(problem: Problem, configs: Sequence[Config], share: Floats) -> dict[str, float]:
    row_of = {config: row for row, config in enumerate(configs)}
    device = EstimateMeasurer(SPEC, cache_dir=HERE).device
    defaults = {name: e.default_config(problem, device) for name, e in ENGINES.items()}
    rows = {name: row_of.get(config) for name, config in defaults.items()}
    return {name: np.nan if row is None else float(share[row]) for name, row in rows.items()}


def _spearman(a: Floats, b: Floats) -> float:
    ranks = [np.argsort(np.argsort(values)) for values in (a, b)]
    return float(np.corrcoef(*ranks)[0, 1])


def compiled_resources(
    case: Case, configs: Sequence[Config], binaries: dict[str, list[int] | str]
) -> list[Resources]:
    """Return resources of each config, from ``binaries``; compile what lacks there, and add it."""
    with TemporaryDirectory() as folder:
        compiler = BinaryCompiler(Path(folder), SPEC.target)
        found = []
        for config in configs:
            key = " | ".join(binary_key(case.problem, config, which) for which in BOTH)
            if key not in binaries:
                answers = [compiler.answer(case.problem, config, which) for which in BOTH]
                failures = [a.reason for a in answers if isinstance(a, CompileFailure)]
                binaries[key] = failures[0] if failures else list(astuple(worse_of(*answers)))
            found.append(_recorded(case, config, binaries[key]))
    return found


def _recorded(case: Case, config: Config, binary: list[int] | str) -> Resources:
    """Our kernel's resources, with the recorded kernel's buffers where it has one more."""
    if isinstance(binary, str):
        return NEVER
    resources = Resources(*binary)
    swapped = case.swaps_operands and config.block_size_m < 64 <= config.block_size_n
    if not swapped:
        return resources
    rows = config.block_size_m + config.block_size_n
    return replace(resources, shared_bytes=config.num_stages * rows * config.block_size_k)


def print_table(title: str, rows: Sequence[Row]) -> None:
    names = list(ENGINES)
    print(f"\n{title}")
    print(
        "| landscape | M | optimum µs | choice | choice | first 10 | "
        + " | ".join(f"{name} default" for name in names)
        + " | rank corr. | model / measured |"
    )
    print("|---|---|---|---|---|---|" + "---|" * len(names) + "---|---|")
    for row in rows:
        defaults = " | ".join(f"{row.default_shares[name]:.3f}" for name in names)
        print(
            f"| {row.label} | {row.tokens} | {row.optimum_us:.0f} | {row.choice} | "
            f"{row.choice_share:.3f} | {row.top_ten_share:.3f} | {defaults} | "
            f"{row.rank_correlation:.2f} | {row.scale:.2f} |"
        )
    means = " | ".join(
        f"{np.nanmean([row.default_shares[name] for row in rows]):.3f}" for name in names
    )
    top = np.mean([row.top_ten_share for row in rows])
    print(f"| **mean** | | | | **{mean_share(rows):.3f}** | {top:.3f} | {means} | | |")


DOUBTS = {
    "TILE_CLOCKS": (2250.0, 6750.0),
    "ACCUMULATOR_CLOCKS": (0.0, 20.0),
    "STEP_CLOCKS": (50.0, 200.0),
    "L2_CLOCKS": (250.0, 500.0),
    "L2_ROW_SHARES": ((0.3, 0.3, 1.0), (1.0, 1.0, 1.0)),
    "L2_SM_BYTES": (40.0, 80.0),
    "L2_UNIQUE_BYTES": (20.0, 36.0),
    "MEMORY_US": (0.3, 0.7),
    "MEMORY_SHARE": (0.85, 1.0),
    "OVERLAP": (2.0, 4.0),
    "SYNC_SHARE_HALF": (0.4, 0.8),
    "SHARED_BYTES": (96.0, 160.0),
}
"""Constant → values well beyond the doubt about it."""


def print_doubts(landscapes: Sequence[tuple[Case, GemmTimes]]) -> None:
    """The mean share of the choice with one constant changed, resources guessed."""
    print("\n| constant | low | high | mean choice at low | at high |\n|---|---|---|---|---|")
    for name, values in DOUBTS.items():
        shares = [f"{_share_with(name, value, landscapes):.3f}" for value in values]
        print(
            f"| {name} {getattr(constants, name)} | {values[0]} | {values[1]} | "
            + " | ".join(shares)
            + " |"
        )


def _share_with(name: str, value: float, landscapes: Sequence[tuple[Case, GemmTimes]]) -> float:
    users = [module for module in (model, gemm_costs) if hasattr(module, name)]
    patches = [mock.patch.object(module, name, value) for module in users]
    for patch in patches:
        patch.start()
    try:
        return mean_share([row for case, lands in landscapes for row in judge_case(case, lands)])
    finally:
        for patch in patches:
            patch.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--landscapes", type=Path, default=DEFAULT_LANDSCAPES, metavar="DIR")
    parser.add_argument("--recompile", action="store_true", help=f"anew for {BINARIES.name}")
    parser.add_argument("--doubt", action="store_true", help="vary the constants, one by one")
    args = parser.parse_args()
    landscapes = [(case, read_gemm_times(args.landscapes / case.file)) for case in CASES]
    guessed = [row for case, landscape in landscapes for row in judge_case(case, landscape)]
    print_table("Resources guessed before compiling", guessed)
    if args.doubt:
        print_doubts(landscapes)
    known = BINARIES.exists() and not args.recompile
    binaries = json.loads(BINARIES.read_text()) if known else {}
    rows = []
    for case, landscape in landscapes:
        resources = compiled_resources(case, landscape.configs, binaries)
        rows += judge_case(case, landscape, resources)
    BINARIES.write_text(json.dumps(binaries, indent=0, sort_keys=True) + "\n")
    print_table("Resources from the compiler", rows)


if __name__ == "__main__":
    main()
