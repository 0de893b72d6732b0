"""A rough time of each config, from sizes alone: what the sampler begins with where nothing better
is known of the GPU.

Blocks share out evenly among the SMs, and those of one SM run in turns of as many as fit. A turn is
a start and the K steps, in which works overlap:

    turns × (start + K steps × together(dots, scales and spills, tiles from L2, wait for loads))

Its figures are round ones of an H100, most of them measured
(``autotune/backends/estimate/constants.py``), and stand for any GPU, since only ratios of times
count. Half or twice of any finds about as much (benchmarks/samplers/README.md, which says what was
chosen on recorded times).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from autotune.spec.arrays import Floats
from autotune.spec.binary import BOTH, GemmShape, Scales, gemm_shape, scales_of
from autotune.spec.config import Config
from autotune.spec.device import Device
from autotune.spec.problem import Problem
from autotune.studies.search.surrogate.features import MOST_REGISTERS, SMS, Table

_START = 2000.0
"""Clocks of a block outside its K steps."""
_STEP = 100.0
"""Clocks of a K step's barriers."""
_LATENCY = 700.0
"""Clocks between a load and its data."""
_DOT = 2048.0
"""Multiplications of 16 bits that an SM does in a clock."""
_L2_BYTES = 64.0
"""Bytes that an SM gets from the L2 in a clock, where a tile's rows are whole lines."""
_LINE_BYTES = 128
_MEMORY_BYTES = 2400.0
"""Bytes that device memory gives in a clock, to all SMs together."""
_ALU = 128.0
"""Plain fp32 operations of an SM in a clock."""
_SPILLED_BYTES = 64.0
"""Bytes of spilled registers that an SM moves in a clock."""


def rough_clocks(problem: Problem, device: Device, configs: Sequence[Config]) -> Floats:
    """[config] clocks of both GEMMs: only ratios mean anything."""
    table = Table(problem, device, tuple(configs))
    clocks: Floats = sum(
        (_gemm_clocks(table, gemm_shape(problem, which)) for which in BOTH), np.zeros(len(configs))
    )
    return clocks


def _gemm_clocks(table: Table, shape: GemmShape) -> Floats:
    """Clocks of one GEMM: a block's start, then what is slower, the SMs or device memory."""
    blocks = np.ceil(table.m_blocks * np.ceil(shape.n / table.block_n) / SMS)
    turns = np.ceil(blocks / table.occupancy)
    steps = np.ceil(shape.k / table.block_k)
    weights = table.active_experts * shape.n * shape.k * table.problem.dtype.weight_bits / 8
    resident = np.minimum(table.occupancy, blocks)
    on_sms = turns * (_START + steps * _step_clocks(table, resident))
    return _START + _together(on_sms, weights / _MEMORY_BYTES)


def _step_clocks(table: Table, resident: Floats) -> Floats:
    """Clocks of one K step of the ``resident`` blocks of an SM."""
    dtype = table.problem.dtype
    elements = table.block_m * table.block_n
    dot = elements * table.block_k / (_DOT * 16 / dtype.activation_bits)
    spilled = np.maximum(table.registers - MOST_REGISTERS, 0) * table.threads
    alu = 2 * 4 * spilled / _SPILLED_BYTES  # written and read again
    if scales_of(table.problem) is Scales.BLOCK:
        alu = alu + 2 * elements / _ALU
    row_bytes = table.block_k * dtype.weight_bits / 8
    load = table.step_bytes / np.where(row_bytes < _LINE_BYTES, _L2_BYTES / 2, _L2_BYTES)
    wait = (_LATENCY + load + dot + alu) / (table.stages - 1)
    works = _together(np.maximum(dot + alu, resident * dot), resident * alu, resident * load, wait)
    return _STEP + works


def _together(*clocks: Floats | float) -> Floats:
    """Return the time of works that overlap: the longest, and more the closer the others come."""
    total: Floats = sum((np.asarray(work) ** 3 for work in clocks), np.zeros(())) ** (1 / 3)
    return total
