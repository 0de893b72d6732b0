"""A measurement: samples in µs, how they were taken, and what the compiler reported."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import geometric_mean

from autotune.spec.binary import Which


@dataclass(frozen=True, slots=True)
class Resources:
    """Registers and memory of one compiled kernel. The worst of up and down where they differ."""

    registers: int
    """Registers per thread."""
    spill_bytes: int
    """Local memory per thread in bytes; above zero means registers were spilled."""
    shared_bytes: int
    """Shared memory per block in bytes."""


def worse_of(*kernels: Resources) -> Resources:
    """Return the largest of each: what counts where one config serves both GEMMs."""
    return Resources(
        registers=max(kernel.registers for kernel in kernels),
        spill_bytes=max(kernel.spill_bytes for kernel in kernels),
        shared_bytes=max(kernel.shared_bytes for kernel in kernels),
    )


class FailureCause(StrEnum):
    """The cause of a missing binary. Only the first says the same on another day."""

    REFUSED = "refused"
    """The compiler said no."""
    TIMEOUT = "timeout"
    MEMORY = "memory"
    CRASH = "crash"
    DISK = "disk"
    """Nothing can be written, whatever is compiled."""


@dataclass(frozen=True, slots=True)
class CompileFailure:
    """A compile that gave no binary, with the reason in one line."""

    reason: str
    which: Which | None = None
    """The GEMM, where both were compiled."""
    cause: FailureCause = FailureCause.REFUSED


CompileResult = Resources | CompileFailure
"""The compiler's answer about one binary."""


def typical_us(samples: Sequence[float], routings: int = 1) -> float:
    """Return the geometric mean in µs; of several routings, the geometric mean of theirs.

    Not the median: where an expert gets more tokens than a tile has rows under every third
    instance, a median shows none of what that costs. Each sample is a median of calls already.
    Sample i is of routing i modulo ``routings``. The smallest geometric mean of times is also
    the smallest mean relative loss, on a log scale, whatever time each instance is related to.
    """
    return _mean(routing_us(samples, routings))


def routing_us(samples: Sequence[float], routings: int) -> tuple[float, ...]:
    """Return the geometric mean in µs under each of the routings that has a sample."""
    count = min(routings, len(samples))
    return tuple(_mean(samples[start::routings]) for start in range(count))


def _mean(samples: Sequence[float]) -> float:
    """Return the geometric mean; of equal samples it is theirs to the last bit."""
    return geometric_mean(samples) if len(set(samples)) > 1 else samples[0]


@dataclass(frozen=True, slots=True)
class Measurement:
    """Times of one config on one problem.

    Sample ``i`` is routing instance ``i`` of the problem, the same instances for every config,
    so samples of two configs can be compared pair by pair.
    """

    samples_us: tuple[float, ...]
    how: str
    """A description for people: "CUDA graph, cold L2, 10 routings", "estimate"."""
    up_us: tuple[float, ...] = ()
    """Samples of the up GEMM alone, for a pair of configs; ``samples_us`` are then the sums with
    the down GEMM's. Empty for a config of both GEMMs."""
    down_us: tuple[float, ...] = ()
    routings: int = 1
    """Number of routings that the instances are of, in turn."""
    extrapolated_us: float | None = None
    """Mean that all instances are believed to give, where samples were cut short, since the
    first ones may be fast or slow for every config."""

    @classmethod
    def of_columns(
        cls, columns: Sequence[Sequence[float]], how: str, routings: int = 1
    ) -> Measurement:
        """Make the measurement of the layer's samples, or of those of a pair's up and down GEMM:
        sample i of both is routing instance i."""
        if len(columns) == 1:
            return cls(tuple(columns[0]), how, routings=routings)
        up_us, down_us = map(tuple, columns)
        sums = tuple(up + down for up, down in zip(up_us, down_us, strict=True))
        return cls(sums, how, up_us, down_us, routings)

    @property
    def columns(self) -> tuple[tuple[float, ...], ...]:
        """Samples of the layer, or of a pair's up and down GEMM."""
        return (self.up_us, self.down_us) if self.up_us else (self.samples_us,)

    @property
    def geomean_us(self) -> float:
        """The mean over all instances; see ``typical_us``."""
        if self.extrapolated_us is not None:
            return self.extrapolated_us
        return typical_us(self.samples_us, self.routings)
