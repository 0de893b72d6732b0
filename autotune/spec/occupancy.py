"""How many blocks of a compiled kernel an SM holds at a time: what hides its waits."""

from __future__ import annotations

from dataclasses import dataclass

from autotune.spec.device import Device
from autotune.spec.measurement import Resources


@dataclass(frozen=True, slots=True)
class Footprint:
    """What a compiled config takes of an SM: the worse of up and down."""

    spill_bytes: int
    """Local memory per thread."""
    blocks_per_sm: int | None
    """None for a GPU that is not in the table."""


@dataclass(frozen=True, slots=True)
class _Sm:
    """What the blocks of an SM (AMD: compute unit) share."""

    warps: int
    blocks: int
    registers: int = 65536
    """32-bit ones, of all lanes."""


_SMS: dict[int | str, _Sm] = {
    75: _Sm(32, 16),
    80: _Sm(64, 32),
    86: _Sm(48, 16),
    87: _Sm(48, 16),
    89: _Sm(48, 24),
    90: _Sm(64, 32),
    100: _Sm(64, 32),
    103: _Sm(64, 32),
    120: _Sm(48, 24),
    121: _Sm(48, 24),
    "gfx942": _Sm(32, 32, registers=131072),
}
"""Arch → SM. CUDA C++ Programming Guide, table "Technical Specifications per Compute Capability";
AMD CDNA 3 architecture whitepaper: 512 registers a lane on each of four SIMD units."""
_REGISTER_UNIT = 8
"""Registers of a thread are given out in such steps (both makers)."""
_RESERVED_BYTES = 1024
"""Of shared memory, for each block and once beside the largest block: SM80 and later."""


def blocks_per_sm(resources: Resources, num_warps: int, device: Device) -> int | None:
    """By registers, shared memory, warps and the hardware's limit; 0 where not even one fits.
    None for a GPU that is not in the table."""
    sm = _SMS.get(device.target.arch)
    if sm is None:
        return None
    has_reserve = device.target.backend == "cuda" and int(device.target.arch) >= 80
    reserved = _RESERVED_BYTES if has_reserve else 0
    shared = (device.shared_bytes + reserved) // max(resources.shared_bytes + reserved, 1)
    steps = -(-max(resources.registers, 1) // _REGISTER_UNIT)
    registers = sm.registers // (steps * _REGISTER_UNIT * device.target.warp_size * num_warps)
    return min(shared, registers, sm.warps // num_warps, sm.blocks)
