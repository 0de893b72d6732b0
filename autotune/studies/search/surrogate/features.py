"""Physical features of a config on a problem: what tile sizes mean before anything is compiled.

Logarithms (base 2) of counts, bytes and operations: no constant is fitted to times.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from autotune.routing.draw import drawable, topk_ids
from autotune.spec.arrays import Floats
from autotune.spec.binary import BOTH, GemmShape, gemm_shape
from autotune.spec.config import Config
from autotune.spec.device import Device, Target
from autotune.spec.limits import shared_bytes
from autotune.spec.problem import Problem

SMS = 132
"""SMs that any device is taken to have: those of H100 and H200. Others have 108 to 160."""
COUNTS = 5
"""So many first columns grow with the problem: M-blocks, tiles, bytes, operations, K steps."""
_REGISTERS = 65536
"""32-bit registers of an SM, SM70 to SM120."""
_WARPS = 64
MOST_REGISTERS = 255
_ADDRESSING = 60
"""Registers of a thread beside its accumulators, roughly: pointers, masks and operands."""


def features(problem: Problem, device: Device, configs: Sequence[Config]) -> Floats:
    """[config, feature] for both GEMMs together. Pure: the same arguments, the same numbers."""
    table = Table(problem, device, tuple(configs))
    return np.column_stack(table.columns())


@dataclass(frozen=True)
class Table:
    """Columns over configs."""

    problem: Problem
    device: Device
    configs: tuple[Config, ...]

    def columns(self) -> list[Floats]:
        gemms = [self._gemm(gemm_shape(self.problem, which)) for which in BOTH]
        tiles, read, operations, chain, waste = (sum(column) for column in zip(*gemms, strict=True))
        in_flight = self.occupancy * (self.stages - 1) * self.step_bytes
        return [
            *map(np.log2, (self.m_blocks, tiles, read, operations, chain)),
            waste,
            *map(np.log2, (self.shared, self.occupancy, self.accumulators, in_flight)),
            np.log2(self.occupancy * self.warps),
            np.log2(self.live_rows / self.block_m),
            np.log2(np.minimum(self.group_m, 4 * self.blocks_per_expert)),
            (self.block_m >= 64).astype(float),  # tiles that a warp group multiplies
        ]

    def _gemm(self, shape: GemmShape) -> tuple[Floats, ...]:
        """Tiles, bytes read by tiles, operations with padding, K steps one after the other
        (waves × steps), and how full the waves are."""
        tiles = self.m_blocks * np.ceil(shape.n / self.block_n)
        steps = np.ceil(shape.k / self.block_k)
        waves = tiles / (SMS * self.occupancy)
        return (
            tiles,
            tiles * steps * self.step_bytes,
            2 * tiles * steps * self.block_m * self.block_n * self.block_k,
            np.ceil(waves) * steps,
            waves / np.ceil(waves),
        )

    @cached_property
    def step_bytes(self) -> Floats:
        """Bytes of A (rows that hold a token) and B that a block reads in a K step."""
        dtype = self.problem.dtype
        bits = self.live_rows * dtype.activation_bits + self.block_n * dtype.weight_bits
        read: Floats = bits * self.block_k / 8
        return read

    @cached_property
    def shared(self) -> Floats:
        alike = replace(self.problem, tokens=1)  # all batch sizes take the same
        return _shared(alike, self.device.target, self.configs)

    @cached_property
    def accumulators(self) -> Floats:
        """fp32 accumulators of a thread."""
        share: Floats = self.block_m * self.block_n / self.threads
        return share

    @property
    def registers(self) -> Floats:
        """Registers that a thread asks for, roughly; what is beyond the most is spilled."""
        return self.accumulators + _ADDRESSING

    @cached_property
    def threads(self) -> Floats:
        threads: Floats = self.device.target.warp_size * self.warps
        return threads

    @cached_property
    def occupancy(self) -> Floats:
        """Blocks of an SM, by shared memory, warps and a guess of registers; at least one."""
        a_thread = np.minimum(self.registers, MOST_REGISTERS)
        limits = (
            self.device.shared_bytes / self.shared,
            _WARPS / self.warps,
            _REGISTERS / (self.threads * a_thread),
        )
        blocks: Floats = np.maximum(np.floor(np.minimum.reduce(limits)), 1)
        return blocks

    @cached_property
    def m_blocks(self) -> Floats:
        """Blocks along M: each expert's rows rounded up to BLOCK_SIZE_M."""
        rows = rows_per_expert(self.problem)
        of_size = {size: int(np.sum(-(-rows // int(size)))) for size in set(self.block_m.tolist())}
        return np.array([max(of_size[size], 1) for size in self.block_m.tolist()], dtype=float)

    @cached_property
    def live_rows(self) -> Floats:
        """Rows of a block that hold a token, on average."""
        total = float(rows_per_expert(self.problem).sum())
        return np.maximum(total / self.m_blocks, 1e-3)

    @cached_property
    def blocks_per_expert(self) -> Floats:
        return np.maximum(self.m_blocks / self.active_experts, 1)

    @cached_property
    def active_experts(self) -> int:
        """Experts that get a row, at least one."""
        return max(int(np.count_nonzero(rows_per_expert(self.problem))), 1)

    @cached_property
    def block_m(self) -> Floats:
        return self._column("block_size_m")

    @cached_property
    def block_n(self) -> Floats:
        return self._column("block_size_n")

    @cached_property
    def block_k(self) -> Floats:
        return self._column("block_size_k")

    @cached_property
    def group_m(self) -> Floats:
        return self._column("group_size_m")

    @cached_property
    def warps(self) -> Floats:
        return self._column("num_warps")

    @cached_property
    def stages(self) -> Floats:
        return np.maximum(self._column("num_stages"), 2)

    def _column(self, field: str) -> Floats:
        return np.array([getattr(config, field) for config in self.configs], dtype=float)


@lru_cache(maxsize=16)
def _shared(problem: Problem, target: Target, configs: tuple[Config, ...]) -> Floats:
    """[config] bytes of shared memory, at least one. Kept, since every study of a run asks for
    those of its whole space, for itself and for each sibling. Must not be changed."""
    sizes = [shared_bytes(problem, config, target) for config in configs]
    at_least: Floats = np.maximum(np.array(sizes, dtype=float), 1)
    return at_least


@lru_cache(maxsize=64)
def rows_per_expert(problem: Problem) -> NDArray[np.int64]:
    """[E] rows of each local expert in routing instance 0. A recording that is not at hand here
    is taken as uniform."""
    ids = topk_ids(drawable(problem), 0)
    return np.bincount(ids[ids >= 0], minlength=problem.experts)
