"""What was measured: samples in µs, how they were taken, and what the compiler reported."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True, slots=True)
class Resources:
    """What one compiled kernel takes. The worst of up and down where they differ."""

    registers: int
    """Registers per thread."""
    spill_bytes: int
    """Local memory per thread in bytes; above zero means registers were spilled."""
    shared_bytes: int
    """Shared memory per block in bytes."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """Times of one config on one problem.

    Sample ``i`` is routing instance ``i`` of the problem, the same instances for every config,
    so samples of two configs can be compared pair by pair.
    """

    samples_us: tuple[float, ...]
    how: str
    """For people: "CUDA graph, cold L2, 10 routings", "estimate", "replay"."""

    @property
    def median_us(self) -> float:
        return median(self.samples_us)
