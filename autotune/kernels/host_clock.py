"""A clock for layers that run on the CPU: what the host's own clock says."""

from __future__ import annotations

import time

import torch

from autotune.kernels.timing import Work

_CACHE_BYTES = 64 << 20
"""More than the last level of most CPUs' caches."""


class HostClock:
    """Implements ``timing.Clock``. There is nothing to capture: calls return when they are done."""

    def __init__(self, cache_bytes: int = _CACHE_BYTES) -> None:
        """Holds a buffer of ``cache_bytes``: written, little of anything older stays cached."""
        self._buffer = torch.empty(cache_bytes, dtype=torch.int8)

    def capture(self, call: Work) -> Work:
        return call

    def flush(self) -> None:
        self._buffer.zero_()

    def elapsed_us(self, work: Work) -> float:
        begin = time.perf_counter_ns()
        work()
        return (time.perf_counter_ns() - begin) / 1000

    def rest(self, us: float) -> None:
        """None: a CPU's clock is not what is at stake here."""
