"""Time of the MoE layer's two GEMMs from a GPU's figures.

A GEMM runs as waves of blocks over the SMs; a wave takes as long as the K steps of the blocks
that an SM holds, and what of their prologues and epilogues their neighbours cannot hide. In a
K step several works overlap: the dot of one block, the matrix unit and the ALUs shared by all
of them, the L2, device memory, and the latency of the loads that num_stages keeps in flight.

    routing ──────────► M-blocks ─► tiles ─► waves ─► Σ (fixed + steps x step) ─► µs
    config, resources ─► blocks of an SM ──────┘                      ▲
    config, GPU ───────► clocks of each work in one K step ───────────┘

Of its constants one, ``L2_ROW_SHARES``, was chosen by times of MoE kernels; the others are of
datasheets (``specs``) and microbenchmarks (``microbench``).
``benchmarks/estimate`` judges the model against recorded landscapes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from autotune.backends.estimate.constants import (
    ACCUMULATOR_CLOCKS,
    BLOCK_CLOCKS,
    L2_CLOCKS,
    L2_ROW_BYTES,
    L2_ROW_SHARES,
    L2_SM_BYTES,
    L2_UNIQUE_BYTES,
    LAUNCH_US,
    MEMORY_SHARE,
    MEMORY_US,
    OVERLAP,
    ROW_BYTES,
    ROW_SHARES,
    STEP_CLOCKS,
    TILE_CLOCKS,
)
from autotune.backends.estimate.gemm_costs import (
    Traffic,
    alu_clocks,
    matrix_clocks,
    shared_clocks,
    spill_clocks,
)
from autotune.backends.estimate.tiles import Tiles, tiles_of
from autotune.backends.hardware import GpuSpec
from autotune.backends.routed_rows import RoutedRows, routed_rows
from autotune.routing.draw import instances_of
from autotune.spec.arrays import Floats
from autotune.spec.binary import BOTH, Scales, Which, gemm_shape, scales_of
from autotune.spec.config import AnyConfig, Config
from autotune.spec.measurement import Resources
from autotune.spec.problem import Problem

REVISION = 5
"""Revision of the model. Raise it with every change of a time, as a kernel of other registers
brings: estimates of two revisions never mix."""


def model_us(
    problem: Problem,
    configs: Sequence[Config],
    spec: GpuSpec,
    routings: Sequence[RoutedRows],
    resources: Sequence[Resources] | None = None,
) -> Floats:
    """[routing, config] µs of one layer: both GEMMs and what surrounds them.

    ``resources`` are the compiler's, one for each config; None: guessed before compiling.
    Raises DeviceError where the GPU lacks the dtype.
    """
    of_both = dict.fromkeys(BOTH, resources) if resources else None
    gemms = gemms_us(problem, configs, spec, routings, of_both).sum(axis=1)
    around = [around_us(problem, spec, rows) for rows in routings]
    times: Floats = gemms + np.array(around)[:, None]
    return times


def gemms_us(
    problem: Problem,
    configs: Sequence[AnyConfig],
    spec: GpuSpec,
    routings: Sequence[RoutedRows],
    resources: Mapping[Which, Sequence[Resources]] | None = None,
) -> Floats:
    """[routing, up or down, config] µs of the GEMMs alone; a pair's each with its own config.

    ``resources`` are of each GEMM, one for each config; otherwise as in ``model_us``.
    """
    halves = []
    for which in BOTH:
        own = [c if isinstance(c, Config) else getattr(c, which) for c in configs]
        tiles = tiles_of(problem, own, spec, resources[which] if resources else None)
        halves.append([_Gemm(problem, spec, rows, tiles, which).us() for rows in routings])
    times: Floats = np.array(halves).swapaxes(0, 1)
    return times


def around_us(problem: Problem, spec: GpuSpec, rows: RoutedRows) -> float:
    """µs of alignment, activation and sum: three launches, and the 16-bit elements that the
    last two move. The same for every config, so it never changes an order."""
    activated = rows.total * (gemm_shape(problem, "up").n + problem.intermediate)
    summed = (rows.total + problem.tokens) * problem.hidden
    return 3 * LAUNCH_US + 2 * (activated + summed) / (spec.memory_gb_s * MEMORY_SHARE * 1e3)


@dataclass(frozen=True, eq=False)
class _Gemm:
    """One of the two GEMMs. Clocks are of the SM; every value is one number per config."""

    problem: Problem
    spec: GpuSpec
    rows: RoutedRows
    tiles: Tiles
    which: Which

    def us(self) -> Floats:
        """Launch, one block's fixed part, then what is slower: the SMs or device memory.

        Equal blocks that start together on an SM stay together and do not hide each other's
        fixed part: it costs as much with five on an SM as with one, where all data is in L2
        (``benchmarks/estimate/tile_cost.py``). Waiting for memory spreads them apart, so of
        that part only the share of time counts in which the SMs, were it hidden, would be busy.
        """
        apart = self.waves(self.fixed / self.tiles.per_sm(self.spec))
        together = self.waves(self.fixed)
        busy = np.minimum(1.0, apart / np.maximum(self.memory, 1.0))
        on_sms = apart + busy * (together - apart)
        return LAUNCH_US + (self.fixed + _together(on_sms, self.memory)) / self.spec.clock_mhz

    def waves(self, fixed: Floats) -> Floats:
        """Return the clocks of the SMs: waves of full ones, what is left, blocks that find nothing
        to do. Without the first block's fixed part, which nothing can hide."""
        sms, per_sm, steps = self.spec.sms, self.tiles.per_sm(self.spec), self.traffic.steps
        slots = per_sm * sms
        full, left = self.traffic.blocks // slots, self.traffic.blocks % slots
        tail = fixed + steps * self.step(np.maximum(np.ceil(left / sms), 1))
        idle = self.traffic.idle_blocks / slots * (BLOCK_CLOCKS + L2_CLOCKS)
        wave = fixed + steps * self.step(per_sm)
        return full * wave + np.where(left > 0, tail, 0) + idle - fixed

    def step(self, resident: Floats) -> Floats:
        """Return the clocks of one K step of all ``resident`` blocks of an SM."""
        return _together(
            np.maximum(self.dot, resident * self.matrix),
            resident * self.alu,
            resident * self.shared,
            resident * self.l2_step,
            self.load_wait,
        )

    @cached_property
    def traffic(self) -> Traffic:
        return Traffic(self.problem, self.spec, self.rows, self.tiles, self.which)

    @cached_property
    def fixed(self) -> Floats:
        """Clocks of a block outside its K loop, the first tiles' latency included."""
        threads = self.tiles.warps * self.spec.target.warp_size
        accumulators = self.tiles.block_m * self.tiles.block_n / threads
        stored = self.traffic.stored_bytes / L2_UNIQUE_BYTES
        return TILE_CLOCKS + ACCUMULATOR_CLOCKS * accumulators + self.load_latency + stored

    @cached_property
    def matrix(self) -> Floats:
        return matrix_clocks(self.problem, self.tiles, self.spec)

    @cached_property
    def shared(self) -> Floats:
        return shared_clocks(self.problem, self.tiles)

    @cached_property
    def alu(self) -> Floats:
        spills = spill_clocks(self.tiles, self.spec)
        return alu_clocks(self.problem, self.tiles, self.spec, self.which) + spills

    @cached_property
    def dot(self) -> Floats:
        """Clocks from a tile's arrival to the next barrier, for a block alone. The matrix unit of a
        warpgroup runs beside the ALUs, unless they wait for its result to scale it; scales that
        vary along K are loaded beside the dot of their step."""
        if scales_of(self.problem) is Scales.BLOCK:
            return np.maximum(self.matrix, L2_CLOCKS) + self.alu + STEP_CLOCKS
        beside = np.maximum(self.matrix, self.alu)
        return np.where(self.tiles.warpgroup, beside, self.matrix + self.alu) + STEP_CLOCKS

    @cached_property
    def load_wait(self) -> Floats:
        """Clocks between two tiles of a block: latency, transfer and dot of a buffer, of which
        num_stages - 1 are under way."""
        under_way = np.maximum(self.tiles.stages - 1, 1)
        return (self.load_latency + self.l2_step + self.dot) / under_way

    @cached_property
    def load_latency(self) -> Floats:
        """Between the L2's and device memory's. A tile waits for the slower of its two halves,
        so a small share of first reads already costs (square root)."""
        first = np.sqrt(np.minimum(1.0, self.traffic.from_memory / self.traffic.from_l2))
        memory = max(MEMORY_US * self.spec.clock_mhz, L2_CLOCKS)
        return L2_CLOCKS + (memory - L2_CLOCKS) * first

    @cached_property
    def l2_step(self) -> Floats:
        """Clocks in which an SM gets the tiles of one block's K step from the L2."""
        unique = self.traffic.unique_step_bytes / L2_UNIQUE_BYTES
        share = np.interp(np.log2(self.traffic.row_bytes), np.log2(L2_ROW_BYTES), L2_ROW_SHARES)
        return _together(self.traffic.step_bytes / L2_SM_BYTES, unique) / share

    @cached_property
    def memory(self) -> Floats:
        """Clocks in which device memory delivers what all SMs ask for."""
        per_clock = self.spec.memory_gb_s * 1e3 * MEMORY_SHARE / self.spec.clock_mhz
        share = np.interp(np.log2(self.traffic.row_bytes), np.log2(ROW_BYTES), ROW_SHARES)
        return self.traffic.from_memory / (per_clock * share)


def _together(*times: Floats) -> Floats:
    """Return the time of works that overlap: the longest, and more the closer the others come."""
    total: Floats = sum((time**OVERLAP for time in times), np.zeros(())) ** (1 / OVERLAP)
    return total


_GUESSED_INSTANCES = 2
"""Routing instances of a guess: only its order matters, and instances differ by few blocks."""


def static_us(
    problem: Problem, configs: Sequence[AnyConfig], spec: GpuSpec, seed: int
) -> tuple[float, ...]:
    """Return the time model in µs with guessed resources; 2,000 configs take about 50 ms."""
    if not configs:
        return ()
    count = instances_of(problem, _GUESSED_INSTANCES)
    routings = [routed_rows(problem, instance, seed) for instance in range(count)]
    times = gemms_us(problem, configs, spec, routings).sum(axis=1)
    times = np.exp(np.log(times).mean(axis=0))  # as several routings are measured
    return tuple(float(us) for us in times)
