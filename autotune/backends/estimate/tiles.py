"""Launch configs as columns, with what each takes of an SM: compiled, or guessed before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from autotune.backends.hardware import GpuSpec
from autotune.spec.arrays import Floats
from autotune.spec.binary import Scales, scales_of, swaps_operands
from autotune.spec.config import Config
from autotune.spec.device import Target
from autotune.spec.limits import shared_bytes
from autotune.spec.measurement import Resources
from autotune.spec.occupancy import SMS, fitting_blocks
from autotune.spec.problem import Dtype, Problem

Flags = NDArray[np.bool_]

MAX_REGISTERS = 255
"""Most registers of one thread, SM80 to SM100."""
_BASE_REGISTERS = 32
"""Addresses, masks and loop state: 35 to 40 registers in kernels with a 4-register accumulator
(bf16, 16x32 tiles, 4 and 8 warps, Triton 3.9, sm_90)."""
_RESERVED_BYTES = 1024
"""Shared memory that each block loses to the driver, on AMD too: estimates of this revision of the
model (``model.REVISION``) have it so."""


@dataclass(frozen=True, slots=True, eq=False)
class Tiles:
    """One row per config; every column is float64 of that length."""

    block_m: Floats
    block_n: Floats
    block_k: Floats
    group_m: Floats
    warps: Floats
    stages: Floats
    warpgroup: Flags
    """The matrix unit reads both tiles from shared memory (wgmma, tcgen05), else registers."""
    swapped: Flags
    """The dot computes Cᵀ: columns of B are on its wide side."""
    tma: Flags
    """B's tiles, and down's A too, come through tensor descriptors."""
    registers: Floats
    spill_bytes: Floats
    shared_bytes: Floats

    def per_sm(self, spec: GpuSpec) -> Floats:
        """Blocks that one SM holds at a time; at least 1, where a launch would fail too."""
        shared = self.shared_bytes + _RESERVED_BYTES - SMS[spec.target.arch].reserved_bytes
        held = fitting_blocks(
            spec.target, spec.shared_per_block, self.registers, shared, self.warps
        )
        return np.maximum(held, 1)

    def warp_grid(self) -> tuple[Floats, Floats]:
        """Warps along M and N of one mma.sync tile: Triton doubles the side with more 16x16
        pieces left (warpsPerTile of its matmul acceleration pass)."""
        along_m, along_n = np.ones_like(self.warps), np.ones_like(self.warps)
        for _ in range(int(np.log2(self.warps.max()))):
            more = along_m * along_n < self.warps
            rows_left = self.block_m / 16 / along_m
            taller = (rows_left >= self.block_n / 16 / along_n) & (rows_left > 1)
            along_m = np.where(more & taller, along_m * 2, along_m)
            along_n = np.where(more & ~taller, along_n * 2, along_n)
        return along_m, along_n


def tiles_of(
    problem: Problem,
    configs: Sequence[Config],
    spec: GpuSpec,
    resources: Sequence[Resources] | None = None,
) -> Tiles:
    """Return the columns of ``configs``; ``resources`` of each, or None: guessed before
    compiling, once for all batch sizes."""
    if resources is None:
        alike = replace(problem, tokens=1, routing="uniform")
        return _guessed_tiles(alike, tuple(configs), spec.target)
    return _tiles(problem, configs, spec.target, resources)


@lru_cache(maxsize=8)
def _guessed_tiles(problem: Problem, configs: tuple[Config, ...], target: Target) -> Tiles:
    return _tiles(problem, configs, target, None)


def _tiles(
    problem: Problem,
    configs: Sequence[Config],
    target: Target,
    resources: Sequence[Resources] | None,
) -> Tiles:
    rows = [
        (c.block_size_m, c.block_size_n, c.block_size_k, c.group_size_m, c.num_warps, c.num_stages)
        for c in configs
    ]
    block_m, block_n, block_k, group_m, warps, stages = np.array(rows, dtype=float).T
    if resources is None:
        shared = [shared_bytes(problem, config, target) for config in configs]
    else:
        shared = [r.shared_bytes for r in resources]
    swapped = np.array([swaps_operands(problem, config, target) for config in configs])
    warpgroup = _uses_warpgroups(problem, (block_m >= 64) | swapped, target)
    tiles = Tiles(
        block_m=block_m,
        block_n=block_n,
        block_k=block_k,
        group_m=group_m,
        warps=warps,
        stages=stages,
        warpgroup=warpgroup,
        swapped=swapped,
        tma=np.array([bool(config.use_tma) for config in configs]),
        registers=np.empty_like(warps),
        spill_bytes=np.zeros_like(warps),
        shared_bytes=np.array(shared, dtype=float),
    )
    if resources is None:
        wanted = _guessed_registers(problem, tiles, target)
        tiles.registers[:] = np.minimum(wanted, MAX_REGISTERS)
        tiles.spill_bytes[:] = 4 * np.maximum(wanted - MAX_REGISTERS, 0)
    else:
        tiles.registers[:] = [max(r.registers, 1) for r in resources]
        tiles.spill_bytes[:] = [r.spill_bytes for r in resources]
    return tiles


def _uses_warpgroups(problem: Problem, is_tall: Flags, target: Target) -> Flags:
    """wgmma (SM90) and tcgen05 (SM100) take 64 rows and more, and no converted weights."""
    has_unit = target.backend == "cuda" and int(target.arch) // 10 in (9, 10)
    converts = problem.dtype in (Dtype.INT8_W8A16, Dtype.INT4_W4A16)
    return is_tall & (has_unit and not converts)


def _guessed_registers(problem: Problem, tiles: Tiles, target: Target) -> Floats:
    """Return the registers a thread would like: accumulators, operand fragments, addresses.

    Scales that vary along K need the dot's result beside the accumulator. mma.sync holds the
    fragments of its operands; the compiler keeps about half of a K step in flight.
    """
    threads = tiles.warps * target.warp_size
    accumulators = tiles.block_m * tiles.block_n / threads
    copies = 2 if scales_of(problem) is Scales.BLOCK else 1
    along_m, along_n = tiles.warp_grid()
    words_a = tiles.block_m / along_m * tiles.block_k * problem.dtype.activation_bits / 32
    words_b = tiles.block_n / along_n * tiles.block_k * problem.dtype.activation_bits / 32
    fragments = 0.5 * (words_a + words_b) / target.warp_size
    return _BASE_REGISTERS + copies * accumulators + np.where(tiles.warpgroup, 0, fragments)
