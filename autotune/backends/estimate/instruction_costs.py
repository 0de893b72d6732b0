"""Clocks that one K step of one block keeps each unit of an SM busy."""

from __future__ import annotations

import numpy as np

from autotune.backends.estimate.constants import (
    L2_UNIQUE_BYTES,
    SHARED_BYTES,
    SYNC_SHARE_BYTE,
    SYNC_SHARE_HALF,
)
from autotune.backends.estimate.tiles import Tiles
from autotune.backends.hardware import GpuSpec
from autotune.spec.arrays import Floats
from autotune.spec.binary import Scales, Which, scales_of
from autotune.spec.problem import Dtype, Problem

_COPY_OPERATIONS = 4
"""Instructions of each 16-byte copy: cp.async, two adds for the 64-bit address, a predicate."""
_OPERATIONS_PER_ACCUMULATOR = {Scales.BLOCK: 2}
"""A multiply and a multiply-add in each step: accumulator += dot * scale."""
_OPERATIONS_PER_WEIGHT = {Dtype.INT4_W4A16: 5, Dtype.INT8_W8A16: 2}
"""Unpack, mask, convert, scale, convert back; convert and pack."""


def matrix_clocks(problem: Problem, tiles: Tiles, spec: GpuSpec) -> Floats:
    """Return clocks of the matrix unit. Raises DeviceError where the GPU has no such dots.

    mma.sync: warps beyond the tile's 16x8 pieces repeat the work of others.
    """
    rate = spec.dense_tflops(problem.dtype) * 1e6 / (spec.sms * spec.clock_mhz)
    pieces = np.maximum(tiles.block_m / 16, 1) * tiles.block_n / 8
    repeated = np.maximum(tiles.warps / pieces, 1) / _sync_share(problem, spec)
    operations = 2 * tiles.block_m * tiles.block_n * tiles.block_k
    clocks: Floats = operations / rate * np.where(tiles.warpgroup, 1, repeated)
    return clocks


def shared_clocks(problem: Problem, tiles: Tiles) -> Floats:
    """Return clocks of shared memory: the tiles are written once, and read as often as the dot
    needs them."""
    row_bits = problem.dtype.activation_bits
    written = tiles.block_m * row_bits + tiles.block_n * problem.dtype.weight_bits
    rows_read = np.where(tiles.warpgroup, _warpgroup_rows(tiles), _warp_rows(tiles))
    clocks: Floats = (written + rows_read * row_bits) * tiles.block_k / 8 / SHARED_BYTES
    return clocks


def alu_clocks(problem: Problem, tiles: Tiles, spec: GpuSpec, which: Which) -> Floats:
    """Return clocks of the plain ALUs: copies to issue, scales to apply, weights to convert. One
    thread issues the copy of a whole tile where it goes through a tensor descriptor."""
    lanes = spec.fp32_tflops * 1e6 / 2 / (spec.sms * spec.clock_mhz)
    dtype, scales = problem.dtype, scales_of(problem)
    rows_a = np.where(tiles.tma & (which == "down"), 0, tiles.block_m)
    rows_b = np.where(tiles.tma, 0, tiles.block_n)
    rows = rows_a * dtype.activation_bits + rows_b * dtype.weight_bits
    copies = rows * tiles.block_k / 8 / 16
    accumulators = tiles.block_m * tiles.block_n
    per_accumulator = 2 if dtype is Dtype.INT8_W8A8 else _OPERATIONS_PER_ACCUMULATOR.get(scales, 0)
    weights = tiles.block_k * tiles.block_n
    operations: Floats = (
        copies * _COPY_OPERATIONS
        + accumulators * per_accumulator
        + weights * _OPERATIONS_PER_WEIGHT.get(dtype, 0)
    )
    return operations / lanes


def spill_clocks(tiles: Tiles, spec: GpuSpec) -> Floats:
    """Spilled registers go out and back once a step, through the L2: what shared memory leaves
    of the L1 is too small for them."""
    threads = tiles.warps * spec.target.warp_size
    return 2 * tiles.spill_bytes * threads / L2_UNIQUE_BYTES


def _warpgroup_rows(tiles: Tiles) -> Floats:
    """wgmma m64nNk: both operands come from shared memory, A anew for each instruction. Four
    warps work on 64 rows; eight split M where it has 128 rows, else N."""
    wide = np.where(tiles.swapped, tiles.block_n, tiles.block_m)
    narrow = np.where(tiles.swapped, tiles.block_m, tiles.block_n)
    across = np.where((wide >= 128) | (tiles.warps <= 4), 1, tiles.warps / 4)
    n = np.minimum(narrow / across, 256)
    instructions = tiles.block_m * tiles.block_n / (64 * n)
    rows: Floats = instructions * (64 + n)
    return rows


def _warp_rows(tiles: Tiles) -> Floats:
    """mma.sync: each warp reads its rows of A and columns of B into registers."""
    along_m, along_n = tiles.warp_grid()
    return along_n * tiles.block_m + along_m * tiles.block_n


def _sync_share(problem: Problem, spec: GpuSpec) -> float:
    """Return the share of the dense rate that mma.sync (or AMD's mfma) reaches."""
    has_faster = spec.target.backend == "cuda" and int(spec.target.arch) >= 90
    if not has_faster:
        return 1.0
    is_byte = problem.dtype in (Dtype.FP8_W8A8, Dtype.INT8_W8A8)
    return SYNC_SHARE_BYTE if is_byte else SYNC_SHARE_HALF
