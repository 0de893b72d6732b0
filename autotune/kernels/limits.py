"""What a device cannot run, known before anything is compiled."""

from __future__ import annotations

from autotune.kernels.config import Config
from autotune.kernels.device import Target
from autotune.kernels.problem import Dtype, Problem

_FIRST_SM: dict[Dtype, tuple[int, str]] = {
    Dtype.BF16: (80, "bf16 dots"),
    Dtype.INT8_W8A16: (80, "bf16 dots"),
    Dtype.INT4_W4A16: (80, "bf16 dots"),
    Dtype.FP8_W8A8: (89, "fp8 (e4m3) dots"),
}
"""Dtype → the first compute capability whose tensor cores read it; others run from SM75."""

_CDNA = ("gfx908", "gfx90a", "gfx94", "gfx95")
_CDNA_WITH_FP8 = ("gfx94", "gfx95")


def shared_bytes(problem: Problem, config: Config, target: Target) -> int:
    """Bytes of shared memory of the pipelined A and B tiles: a lower bound of what Triton takes.

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
    """Why ``target`` cannot multiply this dtype, in words, or None where it can."""
    if target.backend == "hip":
        return _why_no_dtype_hip(dtype, str(target.arch))
    first_sm, what = _FIRST_SM.get(dtype, (75, "tensor core dots"))
    if int(target.arch) >= first_sm:
        return None
    return f"{dtype.value} needs {what}, which start at SM{first_sm}; this GPU is SM{target.arch}"


def why_no_kernel(config: Config) -> str | None:
    """Why our kernel cannot stand for the engines' under ``config``, or None where it can."""
    if config.use_tma:
        return "USE_TMA needs the engine's own kernel: this one loads through pointers"
    return None


def _why_no_dtype_hip(dtype: Dtype, arch: str) -> str | None:
    if not arch.startswith(_CDNA):
        return f"{dtype.value} needs the matrix cores of CDNA ({', '.join(_CDNA)}); this is {arch}"
    if dtype is Dtype.FP8_W8A8 and not arch.startswith(_CDNA_WITH_FP8):
        return f"fp8_w8a8 starts at CDNA3 (gfx94x); this GPU is {arch}"
    return None


def _dots_read_shared_memory(problem: Problem, config: Config, target: Target) -> bool:
    """True for wgmma (SM90) and tcgen05 (SM100, SM103), which take tiles of 64 rows and more.

    Weights that are converted before the dot pass through registers.
    """
    has_unit = target.backend == "cuda" and int(target.arch) // 10 in (9, 10)
    converts = problem.dtype in (Dtype.INT8_W8A16, Dtype.INT4_W4A16)
    return has_unit and config.block_size_m >= 64 and not converts
