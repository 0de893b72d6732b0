"""Costs of one GEMM for a column of configs: blocks and bytes, and what a K step of one block keeps
busy, in clocks of each unit of an SM.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from autotune.backends.estimate.constants import (
    L2_UNIQUE_BYTES,
    SHARED_BYTES,
    SYNC_SHARE_BYTE,
    SYNC_SHARE_HALF,
)
from autotune.backends.estimate.tiles import Tiles
from autotune.backends.hardware import GpuSpec
from autotune.backends.routed_rows import RoutedRows
from autotune.spec.arrays import Floats
from autotune.spec.binary import GemmShape, Scales, Which, gemm_shape, scales_of
from autotune.spec.problem import Dtype, Problem, padded_slots

_OUTPUT_BYTES = 2
"""Bytes of one element of C: bf16 or fp16."""


@dataclass(frozen=True, eq=False)
class Traffic:
    """The blocks and bytes of the up or down GEMM. Every attribute is one number per config.

    Padding rows are neither loaded nor stored: the kernel masks them, unless TMA loads whole
    tiles of A.
    """

    problem: Problem
    spec: GpuSpec
    rows: RoutedRows
    tiles: Tiles
    which: Which

    @property
    def shape(self) -> GemmShape:
        return gemm_shape(self.problem, self.which)

    @cached_property
    def m_blocks(self) -> Floats:
        """At least one, so that a rank without a token costs a launch."""
        return np.maximum(self.rows.blocks(self.tiles.block_m), 1)

    @cached_property
    def n_blocks(self) -> Floats:
        return np.ceil(self.shape.n / self.tiles.block_n)

    @cached_property
    def blocks(self) -> Floats:
        """Tiles of C with work."""
        return self.m_blocks * self.n_blocks

    @cached_property
    def idle_blocks(self) -> Floats:
        """The grid is sized for the worst routing; what is beyond returns after one load."""
        most = padded_slots(self.problem, self.tiles.block_m) / self.tiles.block_m
        return np.maximum(most - self.m_blocks, 0) * self.n_blocks

    @cached_property
    def steps(self) -> Floats:
        """K steps of one tile."""
        return np.ceil(self.shape.k / self.tiles.block_k)

    @cached_property
    def live_rows(self) -> Floats:
        """Rows of an M-block that hold a token, on average."""
        return self.rows.total / self.m_blocks

    @cached_property
    def row_bytes(self) -> Floats:
        """Bytes of one row of the narrower tile: what is contiguous in memory."""
        dtype = self.problem.dtype
        return self.tiles.block_k * min(dtype.activation_bits, dtype.weight_bits) / 8

    @cached_property
    def a_step_bytes(self) -> Floats:
        """Bytes of A that one block reads in one K step: TMA loads padding too."""
        is_whole = self.tiles.tma & (self.which == "down")
        rows = np.where(is_whole, self.tiles.block_m, self.live_rows)
        return rows * self.tiles.block_k * self.problem.dtype.activation_bits / 8

    @cached_property
    def b_step_bytes(self) -> Floats:
        return self.tiles.block_n * self.tiles.block_k * self.problem.dtype.weight_bits / 8

    @cached_property
    def step_bytes(self) -> Floats:
        return self.a_step_bytes + self.b_step_bytes

    @cached_property
    def unique_step_bytes(self) -> Floats:
        """``step_bytes`` divided among the blocks that read the same at about the same time."""
        at_once = np.minimum(self.tiles.per_sm(self.spec) * self.spec.sms, self.blocks)
        rows_at_once = np.maximum(self.tiles.group_m, at_once / self.n_blocks)
        share_b = np.maximum(np.minimum(self.blocks_per_expert, rows_at_once), 1)
        columns_at_once = np.maximum(at_once / self.group, 1)
        share_a = np.minimum(self.n_blocks, columns_at_once)
        return self.a_step_bytes / share_a + self.b_step_bytes / share_b

    @cached_property
    def stored_bytes(self) -> Floats:
        """Bytes of C that one block writes."""
        return self.live_rows * self.tiles.block_n * _OUTPUT_BYTES

    @cached_property
    def from_l2(self) -> Floats:
        """Bytes that all blocks together read."""
        return self.step_bytes * self.steps * self.blocks

    @cached_property
    def group(self) -> Floats:
        """M-blocks that sweep over N together."""
        return np.minimum(self.tiles.group_m, self.m_blocks)

    @cached_property
    def blocks_per_expert(self) -> Floats:
        """M-blocks of an active expert: how often its weights are used."""
        return np.maximum(self.m_blocks / max(self.rows.active_experts, 1), 1)

    @cached_property
    def from_memory(self) -> Floats:
        """Bytes from device memory: each active expert's weights and each row of A once, and
        again as far as the L2 forgot them; what C holds beyond the L2 goes out."""
        dtype, shape = self.problem.dtype, self.shape
        a_row = shape.k * dtype.activation_bits / 8
        a_rows = self.rows.tokens if self.which == "up" else self.rows.total
        b_once = self.rows.active_experts * shape.n * shape.k * dtype.weight_bits / 8
        # Between two uses of an M-block's A: the rows of its group and one column of B tiles.
        group_rows = np.minimum(self.group * self.live_rows, a_rows) * a_row
        experts = np.ceil(self.group / self.blocks_per_expert)
        column = experts * self.tiles.block_n * shape.k * dtype.weight_bits / 8
        a_again = self._forgotten(group_rows + column) * (self.n_blocks - 1)
        # Between two uses of a B tile by different groups: all columns of a group.
        groups = self.blocks_per_expert / np.minimum(self.group, self.blocks_per_expert)
        b_again = self._forgotten(group_rows + column * self.n_blocks) * (groups - 1)
        written = max(self.rows.total * shape.n * _OUTPUT_BYTES - self._l2, 0.0)
        return b_once * (1 + b_again) + a_rows * a_row * (1 + a_again) + written

    def _forgotten(self, distance: Floats) -> Floats:
        """Return the share of the data that the L2 has lost after ``distance`` bytes of other
        data."""
        return np.maximum(0.0, 1 - self._l2 / np.maximum(distance, 1))

    @property
    def _l2(self) -> float:
        """Half of the L2 counts: each of its two partitions caches for the SMs next to it, so
        what both sides read is there twice (A100 whitepaper)."""
        return self.spec.l2_bytes / 2


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
