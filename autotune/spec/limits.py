"""Rules for what a device cannot run, known before anything is compiled."""

from __future__ import annotations

from autotune.spec.binary import BOTH, Scales, gemm_shape, scales_of, swaps_operands
from autotune.spec.config import Config
from autotune.spec.device import Target
from autotune.spec.problem import Dtype, Problem

_FIRST_SM: dict[Dtype, tuple[int, str]] = {
    Dtype.BF16: (80, "bf16 dots"),
    Dtype.INT8_W8A16: (80, "bf16 dots"),
    Dtype.INT4_W4A16: (80, "bf16 dots"),
    Dtype.FP8_W8A8: (89, "fp8 (e4m3) dots"),
}
"""Dtype → the first compute capability whose tensor cores read it; others run from SM75."""

_SMALLEST_K: dict[int, int] = {32: 8, 16: 16, 8: 32}
"""Bits of A in a dot → the shortest K that Triton's dots take (its ``min_dot_size``)."""
_SMALLEST_M, _SMALLEST_N = 16, 8
_TMA_BYTES = 16
"""Rows that a tensor descriptor loads start at multiples of this: CUDA programming guide."""
_MOST_TMA_ROWS = 256
"""The longest side of a tensor descriptor's box: the same guide."""

_CDNA = ("gfx908", "gfx90a", "gfx94", "gfx95")
_CDNA_WITH_FP8 = ("gfx94", "gfx95")


def shared_bytes(problem: Problem, config: Config, target: Target) -> int:
    """Return the bytes of shared memory of the pipelined A and B tiles: a lower bound of what
    Triton takes.

    Each buffer holds one [BLOCK_SIZE_M, BLOCK_SIZE_K] tile of A and one
    [BLOCK_SIZE_K, BLOCK_SIZE_N] tile of B. There are ``num_stages`` of them where the matrix
    unit reads shared memory while the next tiles arrive, otherwise one less: the tile in use
    is in registers. (Triton 3.2, 3.6 and 3.9 agree, over SM80 to SM120 and gfx942.)
    """
    a_bits = config.block_size_m * config.block_size_k * problem.dtype.activation_bits
    b_bits = config.block_size_n * config.block_size_k * problem.dtype.weight_bits
    reads_shared = _dots_read_shared_memory(problem, config, target)
    buffers = config.num_stages if reads_shared else max(config.num_stages - 1, 1)
    return buffers * (a_bits + b_bits) // 8


def why_no_dtype(dtype: Dtype, target: Target) -> str | None:
    """Say why ``target`` cannot multiply this dtype, in words, or None where it can."""
    if target.backend == "hip":
        return _why_no_dtype_hip(dtype, str(target.arch))
    first_sm, what = _FIRST_SM.get(dtype, (75, "tensor core dots"))
    if int(target.arch) >= first_sm:
        return None
    return f"{dtype.value} needs {what}, which start at SM{first_sm}; this GPU is SM{target.arch}"


def why_no_dot(problem: Problem, config: Config) -> str | None:
    """Say why the tiles are too small for a dot of the problem's dtype; None if they are not."""
    smallest_k = _SMALLEST_K[problem.dtype.activation_bits]
    smallest = (
        ("BLOCK_SIZE_M", config.block_size_m, _SMALLEST_M),
        ("BLOCK_SIZE_N", config.block_size_n, _SMALLEST_N),
        ("BLOCK_SIZE_K", config.block_size_k, smallest_k),
    )
    for key, size, least in smallest:
        if size < least:
            return f"{key} is {size}; a {problem.dtype.value} dot needs {least} at least"
    return None


def why_no_tma(problem: Problem, target: Target) -> str | None:
    """Say why the GEMMs cannot load through tensor descriptors, in words; None where they can."""
    if target.backend != "cuda" or int(target.arch) < 90:
        return f"TMA needs SM90 or newer; this GPU is {target}"
    is_block_fp8 = problem.dtype is Dtype.FP8_W8A8 and scales_of(problem) is Scales.BLOCK
    if problem.dtype not in (Dtype.BF16, Dtype.FP16) and not is_block_fp8:
        return f"TMA is for bf16, fp16 and block-wise fp8; this is {problem.dtype.value}"
    for which in BOTH:
        row_bytes = gemm_shape(problem, which).k * problem.dtype.weight_bits // 8
        if row_bytes % _TMA_BYTES:
            return f"TMA needs rows of a multiple of {_TMA_BYTES} bytes; {which} has {row_bytes}"
    return None


def why_no_tma_tile(config: Config) -> str | None:
    """Say why the tiles do not fit a tensor descriptor's box; None where they do or need not."""
    size = max(config.block_size_m, config.block_size_n)
    if not config.use_tma or size <= _MOST_TMA_ROWS:
        return None
    return f"a tile of {size} rows does not fit TMA's box of {_MOST_TMA_ROWS}"


def _why_no_dtype_hip(dtype: Dtype, arch: str) -> str | None:
    if not arch.startswith(_CDNA):
        return f"{dtype.value} needs the matrix cores of CDNA ({', '.join(_CDNA)}); this is {arch}"
    if dtype is Dtype.FP8_W8A8 and not arch.startswith(_CDNA_WITH_FP8):
        return f"fp8_w8a8 starts at CDNA3 (gfx94x); this GPU is {arch}"
    return None


def _dots_read_shared_memory(problem: Problem, config: Config, target: Target) -> bool:
    """True for wgmma (SM90) and tcgen05 (SM100, SM103), which take tiles of 64 rows and more, or
    of 64 columns where the operands are swapped.

    Weights that are converted before the dot pass through registers.
    """
    has_unit = target.backend == "cuda" and int(target.arch) // 10 in (9, 10)
    converts = problem.dtype in (Dtype.INT8_W8A16, Dtype.INT4_W4A16)
    is_tall = config.block_size_m >= 64 or swaps_operands(problem, config, target)
    return has_unit and is_tall and not converts
