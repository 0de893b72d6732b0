"""A provider on the CPU whose layers compute the right thing, take told times and a told share of
a memory that is not there."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from autotune.backends.binaries import Binaries, gemm_binaries
from autotune.backends.gpu.measurer import GpuMeasurer
from autotune.backends.gpu.providers import Provider, ProviderLayer, ProviderSite
from autotune.backends.gpu.providers.base import Halves
from autotune.backends.gpu.tensor_cache import no_room
from autotune.backends.gpu.testbed import Testbed, TimedDevice
from autotune.backends.protocol import MeasurerOptions
from autotune.kernels.inputs import MoeInputs, RoutingTensors
from autotune.kernels.reference import moe_reference
from autotune.kernels.timing import Work
from autotune.spec.binary import BOTH, Which
from autotune.spec.config import AnyConfig, Config, ConfigPair, pair_of
from autotune.spec.device import Device, DeviceKind, Target
from autotune.spec.measurement import CompileResult, Resources
from autotune.spec.problem import Problem

SMALL = Problem(experts=4, top_k=2, hidden=64, intermediate=32, tokens=5)
NARROW, MIDDLE, WIDE = (Config(m, 64, 64, 1, 4, 3) for m in (16, 32, 64))
H200 = Device(DeviceKind.CUDA, "NVIDIA H200", Target("cuda", 90), 232448, "3.6.0", "whole layer")
SITE = ProviderSite("cpu", Target("cuda", 90))
OPTIONS = MeasurerOptions(cache_dir=Path("unused"))
BINARY = Resources(registers=64, spill_bytes=0, shared_bytes=40_000)


def out_of_memory() -> torch.OutOfMemoryError:
    return torch.OutOfMemoryError("CUDA out of memory. Tried to allocate\nmore")


def plenty() -> int:
    """Room for everything that a test keeps."""
    return 1 << 30


@dataclass
class Memory:
    """A device's memory: how much it holds, and how often there was too little."""

    problems: int = 100
    """Layers that it holds at a time."""
    instances: int = 100
    """Routing instances that it holds for a layer."""
    failures: int = 0
    layers: weakref.WeakSet[FakeLayer] = field(default_factory=weakref.WeakSet)

    def take(self, has_room: bool) -> None:
        if not has_room:
            self.failures += 1
            raise out_of_memory()


class FakeClock:
    """A call takes BLOCK_SIZE_M µs of its config, a quarter and three of them for a pair's halves.
    There may be too little memory at one timed call."""

    def __init__(self) -> None:
        self.last_us = 0.0
        self.calls, self.no_room_at = 0, -1

    def capture(self, call: Work) -> Work:
        return call

    def flush(self) -> None: ...

    def elapsed_us(self, work: Work) -> float:
        self.calls += 1
        if self.calls == self.no_room_at:
            raise out_of_memory()
        work()
        return self.last_us

    def rest(self, us: float) -> None: ...


@dataclass(frozen=True, eq=False)
class FakeLayer(ProviderLayer):
    provider: FakeProvider
    seen: set[int] = field(default_factory=set)

    def route(self, routing: RoutingTensors) -> None:
        self.seen.add(routing.ids.data_ptr())
        memory = self.provider.memory
        memory.take(has_room=len(self.seen) <= memory.instances)
        self.inputs.set_routing(routing)

    def compile(self, config: AnyConfig | None) -> dict[Which, CompileResult]:
        if config in self.provider.refused:
            raise ValueError("no such tile\nin this engine")
        if self.provider.compiler is None or config is None:
            return {}
        pair, problem = pair_of(config), self.inputs.problem
        answer = self.provider.compiler.answer
        return {which: answer(problem, getattr(pair, which), which) for which in BOTH}

    def binaries(self, config: AnyConfig | None) -> Binaries:
        """Of what launches by itself those of its config."""
        if config in self.provider.refused:
            raise AssertionError
        launched = config or self.provider.own
        return gemm_binaries(self.inputs.problem, launched) if launched else {}

    def own_config(self) -> AnyConfig | None:
        return self.provider.own

    def run(self, config: AnyConfig | None) -> Tensor:
        provider = self.provider
        provider.launched.append(config)
        if config in provider.failing:
            raise provider.failing[config]
        half = config.up if isinstance(config, ConfigPair) else config
        provider.clock.last_us = float(half.block_size_m) if half else 1.0
        right = moe_reference(self.inputs)
        return right * 3 if config in provider.wrong else right

    def halves(self, config: AnyConfig | None) -> Halves:
        whole_us = float(pair_of(config).up.block_size_m) if config else 1.0

        def half(share: float) -> None:
            self.provider.clock.last_us = share * whole_us

        def feed() -> None:
            self.run(config)

        feed()
        return Halves(feed, up=lambda: half(0.25), down=lambda: half(0.75))


class FakeCompiler:
    """Answers at once, and keeps what it was asked."""

    def __init__(self, answers: Mapping[tuple[Config, Which], CompileResult]) -> None:
        self.answers = answers

    def answer(self, problem: Problem, config: Config, which: Which) -> CompileResult:
        return self.answers.get((config, which), BINARY)


class FakeProvider(Provider):
    name = "fake"
    version = "fake 1.0"
    does = "nothing but the right thing"

    def __init__(self, memory: Memory | None = None, *, takes_pairs: bool = False) -> None:
        super().__init__(SITE)
        self.memory = memory or Memory()
        self.takes_pairs = takes_pairs
        self.clock = FakeClock()
        self.launched: list[AnyConfig | None] = []
        self.compiler: FakeCompiler | None = None
        """Says what compiles, where that is before the first call."""
        self.own: AnyConfig | None = None
        """What it launches by itself."""
        self.failing: dict[AnyConfig | None, Exception] = {}
        self.wrong: set[AnyConfig | None] = set()
        self.refused: set[AnyConfig | None] = set()
        self.closed = 0
        self.undo.callback(self._count_close)

    def why_not(self, problem: Problem) -> str | None:
        return "experts are many" if problem.experts > 1000 else None

    def prepare(self, inputs: MoeInputs) -> FakeLayer:
        self.memory.take(has_room=len(self.memory.layers) < self.memory.problems)
        layer = FakeLayer(inputs, self)
        self.memory.layers.add(layer)
        return layer

    def _count_close(self) -> None:
        self.closed += 1


def fake_testbed(
    provider: FakeProvider, instances: int = 10, room_bytes: Callable[[], int] = no_room
) -> Testbed:
    """The CPU as if it were an H200."""
    device = TimedDevice(SITE, H200, provider.clock)
    return Testbed(device, OPTIONS, instances=instances, room_bytes=room_bytes)


def fake_measurer(
    provider: FakeProvider, instances: int = 10, room_bytes: Callable[[], int] = no_room
) -> GpuMeasurer:
    return GpuMeasurer(provider, fake_testbed(provider, instances, room_bytes))
