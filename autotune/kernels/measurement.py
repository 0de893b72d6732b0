"""What was measured: samples in µs, how they were taken, and what the compiler reported."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from statistics import median

from autotune.kernels.binary import Which


@dataclass(frozen=True, slots=True)
class Resources:
    """What one compiled kernel takes. The worst of up and down where they differ."""

    registers: int
    """Registers per thread."""
    spill_bytes: int
    """Local memory per thread in bytes; above zero means registers were spilled."""
    shared_bytes: int
    """Shared memory per block in bytes."""


def worse_of(*kernels: Resources) -> Resources:
    """The largest of each: what counts where one config serves both GEMMs."""
    return Resources(
        registers=max(kernel.registers for kernel in kernels),
        spill_bytes=max(kernel.spill_bytes for kernel in kernels),
        shared_bytes=max(kernel.shared_bytes for kernel in kernels),
    )


class FailureCause(str, Enum):
    """Why there is no binary. Only the first says the same on another day."""

    REFUSED = "refused"
    """The compiler said no."""
    TIMEOUT = "timeout"
    MEMORY = "memory"
    CRASH = "crash"


@dataclass(frozen=True, slots=True)
class CompileFailure:
    """Why the compiler gave up, in one line."""

    reason: str
    which: Which | None = None
    """The GEMM, where both were compiled."""
    cause: FailureCause = FailureCause.REFUSED


@dataclass(frozen=True, slots=True)
class Measurement:
    """Times of one config on one problem.

    Sample ``i`` is routing instance ``i`` of the problem, the same instances for every config,
    so samples of two configs can be compared pair by pair.
    """

    samples_us: tuple[float, ...]
    how: str
    """For people: "CUDA graph, cold L2, 10 routings", "estimate", "replay"."""
    up_us: tuple[float, ...] = ()
    """Of a pair of configs: the up GEMM alone; ``samples_us`` are then the sums with the down
    GEMM's. Empty for a config of both GEMMs."""
    down_us: tuple[float, ...] = ()
    cut_us: float | None = None
    """Of samples that were cut short: the median that all instances are believed to give, since
    the first ones may be fast or slow for every config."""

    @classmethod
    def of_halves(
        cls, up_us: tuple[float, ...], down_us: tuple[float, ...], how: str
    ) -> Measurement:
        """Of a pair: sample i of both GEMMs is routing instance i."""
        sums = tuple(up + down for up, down in zip(up_us, down_us, strict=True))
        return cls(sums, how, up_us, down_us)

    @property
    def median_us(self) -> float:
        """Over all instances."""
        return median(self.samples_us) if self.cut_us is None else self.cut_us
