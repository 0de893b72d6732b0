"""Timers of a call: medians in µs, one per routing instance.

Cold: the L2 cache is emptied before each timed call, as other layers' weights do in serving.
Warm: calls follow each other and share one pair of events.

Long calls are followed by a rest: under load without a pause a GPU comes to its power limit within
some 30 ms and lowers its clocks, by more than configs differ.
"""

# torch.cuda's events and streams have no types in every version.
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from statistics import median
from typing import Protocol, TypeVar

import torch

REST = 0.5
"""Pause after a long call, as a share of its time. On an H200 (benchmarks/gpu/steady.py) medians of
one config spread by 1.4 to 5.3 % without a pause (Mixtral-8x7B, 1024 to 4096 tokens), by 0.05 to
0.25 % with this one; a longer one brings no more."""
_LONG_US = 700.0
"""Shorter calls never came to the limit there, and pauses made their samples scatter more."""

Sample = TypeVar("Sample")

Work = Callable[[], None]
"""Puts something on the current stream, and returns at once."""


class Timer(Protocol):
    """Times one call on several instances. Implementations: ``GraphTimer``, ``EventTimer``."""

    @property
    def how(self) -> str:
        """A description for people: "CUDA graph, cold L2"."""

    def samples(self, call: Work, instances: Iterable[Work]) -> Iterator[float]:
        """Run each instance (it changes what ``call`` reads, untimed), then yield the median µs of
        ``call``. Lazy: who stops reading stops the measuring. The call must read
        and write the same memory each time, and must have run once before."""


class Clock(Protocol):
    """The part of a device that a timer needs; tests have one without a device."""

    def capture(self, call: Work) -> Work:
        """Return a replay of the call's launches, without its host time."""

    def flush(self) -> None:
        """Empty the L2 cache, in stream order."""

    def elapsed_us(self, work: Work) -> float:
        """Device time between before and after ``work``. Waits for the device."""

    def rest(self, us: float) -> None:
        """Leave the device idle for so long."""


class EventTimer:
    """Events around plain calls: the host's launch time shows where kernels are short.

    Implements Timer.
    """

    def __init__(
        self, clock: Clock, *, warm: bool = False, repeats: int = 3, rest: float = REST
    ) -> None:
        """``repeats`` timed calls make one sample; ``rest`` as ``REST``."""
        self._clock, self._warm, self._repeats, self._rest = clock, warm, repeats, rest

    @property
    def how(self) -> str:
        return f"events, {'warm' if self._warm else 'cold'} L2"

    def samples(self, call: Work, instances: Iterable[Work]) -> Iterator[float]:
        for set_instance in instances:
            set_instance()
            yield self._warm_us(call) if self._warm else self._cold_us(call)

    def _cold_us(self, call: Work) -> float:
        return median(self._one_cold_us(call) for _ in range(self._repeats))

    def _one_cold_us(self, call: Work) -> float:
        self._clock.flush()  # it also keeps the device busy while the host launches the call
        return self._rested(self._clock.elapsed_us(call))

    def _warm_us(self, call: Work) -> float:
        call()

        def repeated() -> None:
            for _ in range(self._repeats):
                call()

        return self._rested(self._clock.elapsed_us(repeated)) / self._repeats

    def _rested(self, us: float) -> float:
        if us >= _LONG_US and self._rest:
            self._clock.rest(us * self._rest)
        return us


class GraphTimer(EventTimer):
    """Replays of one CUDA graph: the host's launch time does not show. The default."""

    @property
    def how(self) -> str:
        return super().how.replace("events", "CUDA graph")

    def samples(self, call: Work, instances: Iterable[Work]) -> Iterator[float]:
        """Capture the call once, before the first instance."""
        yield from super().samples(self._clock.capture(call), instances)


class CudaClock:
    """The current CUDA device's events and graphs. Implements Clock."""

    def __init__(self, l2_bytes: int) -> None:
        """Holds a buffer of four times ``l2_bytes``: written, nothing older stays in the L2."""
        self._buffer = torch.empty(4 * l2_bytes, dtype=torch.int8, device="cuda")
        self._begin = torch.cuda.Event(enable_timing=True)
        self._end = torch.cuda.Event(enable_timing=True)

    def capture(self, call: Work) -> Work:
        """PyTorch wants the call warmed up on the stream that captures it."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            call()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            call()
        replay: Work = graph.replay
        return replay

    def flush(self) -> None:
        self._buffer.zero_()

    def elapsed_us(self, work: Work) -> float:
        self._begin.record()
        work()
        self._end.record()
        self._end.synchronize()
        return float(self._begin.elapsed_time(self._end)) * 1000

    def rest(self, us: float) -> None:
        """Others' work on the same GPU goes on."""
        time.sleep(us / 1e6)


def interleaved(streams: Sequence[Iterator[Sample]], count: int) -> list[tuple[Sample, ...]]:
    """``count`` samples of each stream, one of each in turn, in a new order each time: what
    changes with time, as a clock under a power limit, meets them all alike.

    Raises StopIteration where a stream ends before.
    """
    found: list[list[Sample]] = [[] for _ in streams]
    order = random.Random(0)
    for _ in range(count):
        for number in order.sample(range(len(streams)), len(streams)):
            found[number].append(next(streams[number]))
    return [tuple(samples) for samples in found]
