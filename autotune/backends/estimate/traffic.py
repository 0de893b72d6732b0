"""Blocks and bytes of one GEMM for a column of configs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from autotune.backends.estimate.tiles import Tiles
from autotune.backends.hardware import GpuSpec
from autotune.backends.routed_rows import RoutedRows
from autotune.spec.arrays import Floats
from autotune.spec.binary import GemmShape, Which, gemm_shape
from autotune.spec.problem import Problem, padded_slots

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
