"""The CPU's clock under the same timer as a GPU's."""

from __future__ import annotations

import time

from autotune.kernels.host_clock import HostClock
from autotune.kernels.timing import Clock, EventTimer


def test_a_longer_call_takes_longer() -> None:
    clock: Clock = HostClock(cache_bytes=1 << 10)
    waits_s = [0.002, 0.03]
    current = [0.0]
    timer = EventTimer(clock, repeats=1)
    calls = [lambda s=s: current.__setitem__(0, s) for s in waits_s]
    short_us, long_us = timer.samples(lambda: time.sleep(current[0]), calls)
    assert 2_000 <= short_us < long_us
    assert long_us >= 30_000


def test_there_is_nothing_to_capture() -> None:
    def call() -> None:
        pass

    assert HostClock(cache_bytes=1).capture(call) is call
