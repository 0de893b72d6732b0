"""The table of SMs, and how many blocks of a compiled kernel one of them holds at a time.

Blocks that are held together hide each other's waits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from autotune.spec.arrays import Floats
from autotune.spec.binary import Which
from autotune.spec.config import AnyConfig, pair_of
from autotune.spec.device import Device, Target
from autotune.spec.measurement import CompileResult, Resources


@dataclass(frozen=True, slots=True)
class Footprint:
    """The part of an SM that a compiled config takes: the worse of up and down."""

    spill_bytes: int
    """Local memory per thread."""
    blocks_per_sm: int | None
    """None for a GPU that is not in the table."""


@dataclass(frozen=True, slots=True)
class Sm:
    """The resources of one SM (AMD: compute unit), which its blocks share."""

    warps: int
    blocks: int
    registers: int = 65536
    """32-bit registers of all lanes."""
    reserved_bytes: int = 1024
    """Shared memory that each block loses to the driver, and the SM has beside the largest block
    that a launch may ask for."""


SMS: Mapping[int | str, Sm] = {
    75: Sm(32, 16, reserved_bytes=0),
    80: Sm(64, 32),
    86: Sm(48, 16),
    87: Sm(48, 16),
    89: Sm(48, 24),
    90: Sm(64, 32),
    100: Sm(64, 32),
    103: Sm(64, 32),
    120: Sm(48, 24),
    121: Sm(48, 24),
    "gfx942": Sm(32, 32, registers=131072, reserved_bytes=0),
}
"""Arch → SM. CUDA C++ Programming Guide, table "Technical Specifications per Compute Capability";
AMD CDNA 3 architecture whitepaper: 512 registers a lane on each of four SIMD units."""
_REGISTER_UNIT = 8
"""Registers of a thread are given out in such steps (both makers)."""


def fitting_blocks(
    target: Target, largest_block: int, registers: Floats, shared_bytes: Floats, num_warps: Floats
) -> Floats:
    """Return how many blocks of each kernel an SM of ``target`` holds: by registers of a thread,
    shared memory, warps and the hardware's limit; 0 where not even one fits.

    ``largest_block`` is the most shared memory of one block. Raises KeyError for a target that is
    not in ``SMS``.
    """
    sm = SMS[target.arch]
    taken = np.maximum(shared_bytes + sm.reserved_bytes, 1)
    by_shared = (largest_block + sm.reserved_bytes) // taken
    given = np.ceil(np.maximum(registers, 1) / _REGISTER_UNIT) * _REGISTER_UNIT
    by_registers = sm.registers // (given * target.warp_size * num_warps)
    by_warps = np.minimum(sm.warps // num_warps, sm.blocks)
    held: Floats = np.minimum(np.minimum(by_shared, by_registers), by_warps)
    return held


def blocks_per_sm(resources: Resources, num_warps: int, device: Device) -> int | None:
    """Return ``fitting_blocks`` of one kernel; None for a GPU that is not in ``SMS``."""
    if device.target.arch not in SMS:
        return None
    columns = (resources.registers, resources.shared_bytes, num_warps)
    registers, shared, warps = (np.array(value, dtype=float) for value in columns)
    return int(fitting_blocks(device.target, device.shared_bytes, registers, shared, warps))


def held_blocks(
    config: AnyConfig, answers: Mapping[Which, CompileResult], device: Device
) -> int | None:
    """Return ``blocks_per_sm``, the fewer of up and down; None where one did not compile."""
    pair = pair_of(config)
    warps: dict[Which, int] = {"up": pair.up.num_warps, "down": pair.down.num_warps}
    held = [
        blocks_per_sm(answer, warps[which], device) if isinstance(answer, Resources) else None
        for which, answer in answers.items()
    ]
    known = [count for count in held if count is not None]
    return min(known) if len(known) == len(held) else None
