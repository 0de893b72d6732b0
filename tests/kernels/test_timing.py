"""The contract of both timers, on a clock that needs no device."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice

import pytest
import torch

from autotune.kernels.timing import (
    Clock,
    CudaClock,
    EventTimer,
    GraphTimer,
    Timer,
    Work,
    interleaved,
)


class FakeClock:
    """Device time is a counter that work moves; a graph replays without host time."""

    def __init__(self) -> None:
        self.now_us = 0.0
        self.host_us = 5.0
        self.is_cold = False
        self.captures = 0
        self.rests_us: list[float] = []

    def run(self, device_us: float) -> None:
        """Run a kernel: 100 µs more where the cache is cold."""
        self.now_us += device_us + (100 if self.is_cold else 0)
        self.is_cold = False

    def capture(self, call: Work) -> Work:
        self.captures += 1

        def replay() -> None:
            host_us, self.host_us = self.host_us, 0.0
            call()
            self.host_us = host_us

        return replay

    def flush(self) -> None:
        self.is_cold = True

    def elapsed_us(self, work: Work) -> float:
        begin = self.now_us
        work()
        return self.now_us - begin

    def rest(self, us: float) -> None:
        self.rests_us.append(us)


class Layer:
    """A call whose time depends on the current instance, and may jump."""

    def __init__(self, clock: FakeClock, times_us: list[float]) -> None:
        self.clock, self.times_us, self.current = clock, times_us, 0
        self.calls = 0

    def __call__(self) -> None:
        self.calls += 1
        jump = 1000 if self.calls % 7 == 0 else 0
        self.clock.run(self.times_us[self.current] + self.clock.host_us + jump)

    def instances(self) -> list[Work]:
        return [lambda i=i: setattr(self, "current", i) for i in range(len(self.times_us))]


Make = Callable[..., Timer]


@pytest.fixture(params=[EventTimer, GraphTimer])
def make(request: pytest.FixtureRequest) -> Make:
    return request.param


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def test_one_median_for_each_instance(make: Make, clock: FakeClock) -> None:
    layer = Layer(clock, [10, 30, 20])
    host_us = 5 if make is EventTimer else 0
    samples = list(make(clock, repeats=3).samples(layer, layer.instances()))
    assert samples == [110 + host_us, 130 + host_us, 120 + host_us]


def test_warm_calls_follow_each_other(make: Make, clock: FakeClock) -> None:
    layer = Layer(clock, [10])
    host_us = 5 if make is EventTimer else 0
    samples = list(make(clock, warm=True, repeats=3).samples(layer, layer.instances()))
    assert samples == [10 + host_us]


def test_who_stops_reading_stops_the_measuring(make: Make, clock: FakeClock) -> None:
    layer = Layer(clock, [10] * 50)
    assert len(list(islice(make(clock, repeats=3).samples(layer, layer.instances()), 1))) == 1
    assert layer.calls == 3


@pytest.mark.parametrize("warm", [False, True])
def test_long_calls_are_followed_by_a_rest(make: Make, clock: FakeClock, *, warm: bool) -> None:
    """Else a GPU under its power limit lowers its clocks in the midst of a measurement."""
    layer = Layer(clock, [20, 900])
    clock.host_us = 0
    list(make(clock, warm=warm, repeats=1).samples(layer, layer.instances()))
    assert clock.rests_us == [450.0 if warm else 500.0]
    clock.rests_us.clear()
    list(make(clock, warm=warm, repeats=1, rest=1).samples(layer, layer.instances()))
    assert clock.rests_us == [900.0 if warm else 1000.0]
    clock.rests_us.clear()
    list(make(clock, warm=warm, repeats=1, rest=0).samples(layer, layer.instances()))
    assert clock.rests_us == []


def test_interleaved_each_stream_meets_what_changes_with_time() -> None:
    """The order is a new one each time, so that none always follows the same other."""
    drawn: list[int] = []

    def stream(number: int) -> Iterator[int]:
        for _ in range(20):
            drawn.append(number)
            yield len(drawn)

    found = interleaved([stream(number) for number in range(3)], 20)
    rounds = [tuple(drawn[start : start + 3]) for start in range(0, 60, 3)]
    assert all(sorted(each) == [0, 1, 2] for each in rounds)
    assert len(set(rounds)) == 6
    assert sorted(moment for samples in found for moment in samples) == list(range(1, 61))
    assert [len(samples) for samples in found] == [20, 20, 20]


def test_says_how(make: Make, clock: FakeClock) -> None:
    names = {EventTimer: "events", GraphTimer: "CUDA graph"}
    assert make(clock).how == f"{names[make]}, cold L2"
    assert make(clock, warm=True).how == f"{names[make]}, warm L2"


def test_a_graph_is_captured_once(clock: FakeClock) -> None:
    layer = Layer(clock, [10, 20, 30])
    list(GraphTimer(clock).samples(layer, layer.instances()))
    assert clock.captures == 1


@pytest.mark.gpu
@pytest.mark.parametrize("timer", [EventTimer, GraphTimer])
def test_a_real_clock_sees_twice_the_work_take_longer(timer: Make) -> None:
    clock: Clock = CudaClock(torch.cuda.get_device_properties(0).L2_cache_size)
    a = torch.randn(2048, 2048, device="cuda", dtype=torch.bfloat16)

    def times(count: int) -> float:
        def call() -> None:
            for _ in range(count):
                torch.matmul(a, a, out=b)

        b = torch.empty_like(a)
        call()
        return min(timer(clock).samples(call, [lambda: None] * 3))

    assert 1.2 * times(4) < times(8)
