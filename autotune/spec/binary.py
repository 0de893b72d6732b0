"""The compiled binary that a config needs: the parts of problem and config that reach the compiler.

One binary serves both GEMMs, every batch size and every GROUP_SIZE_M of a config, and every
model whose sizes are alike in the few bits below. Compile once per ``binary_key``.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Literal

from autotune.spec.config import Config
from autotune.spec.device import Target
from autotune.spec.problem import Dtype, Problem

Which = Literal["up", "down"]
"""One of the layer's two GEMMs: ``w1`` (gate, if there is one, and up) or ``w2`` (down)."""

BOTH: tuple[Which, Which] = ("up", "down")

ALIGNMENT = 16
"""Triton specialises sizes and strides on divisibility by this; without it no load is wide."""


class Scales(IntEnum):
    """The granularity of a quantised GEMM's scales. The numbers are the kernel's SCALES flag."""

    NONE = 0
    TENSOR = 1
    """One for all activations, one per expert of the weights."""
    CHANNEL = 2
    """One per activation row, one per weight column (weights alone where only they are int)."""
    BLOCK = 3
    """One per (row, block_k) of activations, one per (block_n, block_k) of weights."""
    GROUP = 4
    """One per (column, group of K) of weights; activations are not quantised."""


@dataclass(frozen=True, slots=True)
class GemmShape:
    """C [rows, n] = A [rows, k] × B [experts, n, k]ᵀ of one of the two GEMMs."""

    n: int
    k: int


@dataclass(frozen=True, slots=True)
class GemmFlags:
    """The kernel's constexpr arguments beyond the tile sizes."""

    even_k: bool
    """BLOCK_SIZE_K divides K: no mask along K."""
    scales: Scales
    group_n: int
    """Columns of B that share a scale; 0 where scales do not vary in blocks."""
    group_k: int
    weight_only: bool
    """B is integer and A is not: B is converted before the dot."""
    packed: bool
    """B holds two 4-bit values per byte along K."""
    zero_points: bool
    """A zero point is subtracted from each weight before it is scaled."""
    tma_a: bool
    """A's tiles come through a tensor descriptor: A lies sorted by expert and padded."""
    tma_b: bool


def gemm_shape(problem: Problem, which: Which) -> GemmShape:
    """Return (n, k) of the up GEMM, [2N, H], without a gate [N, H], or of the down, [H, N]."""
    if which == "up":
        return GemmShape(n=(1 + problem.gated) * problem.intermediate, k=problem.hidden)
    return GemmShape(n=problem.hidden, k=problem.intermediate)


def gemm_flags(problem: Problem, config: Config, which: Which) -> GemmFlags:
    """Return the flags that the kernel is specialised on, beside the config and aligned sizes."""
    scales = scales_of(problem)
    blocks = scales in (Scales.BLOCK, Scales.GROUP)
    group_n, group_k = problem.block_shape if blocks and problem.block_shape else (0, 0)
    return GemmFlags(
        even_k=gemm_shape(problem, which).k % config.block_size_k == 0,
        scales=scales,
        group_n=group_n if scales is Scales.BLOCK else 0,
        group_k=group_k,
        weight_only=_is_weight_only(problem.dtype),
        packed=problem.dtype is Dtype.INT4_W4A16,
        zero_points=has_zero_points(problem),
        tma_a=bool(config.use_tma) and which == "down",
        tma_b=bool(config.use_tma),
    )


def swaps_operands(problem: Problem, config: Config, target: Target) -> bool:
    """Return whether the dot computes Cᵀ = B × Aᵀ, as the engines' fp8 kernels do on SM90.

    wgmma takes 64 rows and more on its wide side; with fewer rows than that in a tile of A the
    columns of B go there, and A's rows to the narrow side, which takes 8 and more.
    """
    if problem.dtype is not Dtype.FP8_W8A8 or target.backend != "cuda" or target.arch != 90:
        return False
    return config.block_size_m < 64 <= config.block_size_n


def scales_of(problem: Problem) -> Scales:
    """Return how the problem's scales vary; raises ValueError for int4 without a group size."""
    if not problem.dtype.is_quantized:
        return Scales.NONE
    grouped = problem.block_shape is not None and problem.block_shape[1] > 0
    if _is_weight_only(problem.dtype):
        if problem.dtype is Dtype.INT4_W4A16 and not grouped:
            raise ValueError(f"{problem.name}: int4 weights need block_shape (0, group)")
        return Scales.GROUP if grouped else Scales.CHANNEL
    if grouped:
        return Scales.BLOCK
    # int8 activations are always quantised per token, as the engines do.
    per_channel = problem.per_channel_quant or problem.dtype is Dtype.INT8_W8A8
    return Scales.CHANNEL if per_channel else Scales.TENSOR


def has_zero_points(problem: Problem) -> bool:
    """Return whether a zero point stands beside each scale: weights scaled in groups along K."""
    return problem.zero_points and scales_of(problem) is Scales.GROUP


def weight_row(problem: Problem, which: Which) -> int:
    """Return elements from row to row of B, in storage: K, or K/2 where two share a byte."""
    k = gemm_shape(problem, which).k
    return k // 2 if problem.dtype is Dtype.INT4_W4A16 else k


def binary_key(problem: Problem, config: Config, which: Which) -> str:
    """Name the binary on one target: equal keys, equal binaries. Without GROUP_SIZE_M, and
    without what follows from the rest and the target (``swaps_operands``)."""
    shape, flags = gemm_shape(problem, which), gemm_flags(problem, config, which)
    sizes = (shape.n, shape.k, weight_row(problem, which))
    aligned = "".join("a" if size % ALIGNMENT == 0 else "-" for size in sizes)
    tiles = f"{config.block_size_m}x{config.block_size_n}x{config.block_size_k}"
    options = ",".join(f"{name}={value}" for name, value in launch_options(config).items())
    scales = f"{flags.scales.name.lower()}[{flags.group_n},{flags.group_k}]"
    tail = "even" if flags.even_k else "tail"
    zeros = " zeros" if flags.zero_points else ""
    tma = f" tma{'-a' * flags.tma_a}-b" if flags.tma_b else ""
    return f"{problem.dtype.value} {scales} {tiles} {options} {tail} {aligned}{zeros}{tma}"


def launch_options(config: Config) -> dict[str, int]:
    """Return Triton's compile options of a config, without those that do not apply."""
    names = ("num_warps", "num_stages", "waves_per_eu", "matrix_instr_nonkdim", "kpack")
    values = ((name, getattr(config, name)) for name in names)
    return {name: value for name, value in values if value is not None}


def _is_weight_only(dtype: Dtype) -> bool:
    return dtype in (Dtype.INT8_W8A16, Dtype.INT4_W4A16)
