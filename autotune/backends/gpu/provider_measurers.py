"""Measurers of several providers on one testbed, for ``compare``."""

from __future__ import annotations

from contextlib import ExitStack

from autotune.backends.binaries import Binaries
from autotune.backends.gpu.measurer import GpuMeasurer
from autotune.backends.gpu.providers import open_provider
from autotune.backends.gpu.tensor_cache import no_room
from autotune.backends.gpu.testbed import Testbed, take_device
from autotune.backends.protocol import MeasurerOptions
from autotune.spec.config import AnyConfig
from autotune.spec.device import Device
from autotune.spec.problem import Problem
from autotune.studies.outcome import TrialResult


class ProviderMeasurers:
    """Measurers of several providers on one testbed, each opened when it is first named."""

    def __init__(self, testbed: Testbed) -> None:
        self._testbed = testbed
        self._measurers: dict[str, GpuMeasurer] = {}

    @property
    def device(self) -> Device | None:
        """The GPU's facts; None for the CPU."""
        return self._testbed.facts

    def about(self, provider: str) -> tuple[str, str]:
        """Return its version, and what a timed call of it does. Raises as ``open_provider``."""
        opened = self._measurer(provider).provider
        return opened.version, opened.does

    def measure(self, provider: str, problem: Problem, config: AnyConfig | None) -> TrialResult:
        """See ``GpuMeasurer.measure_any``."""
        return self._measurer(provider).measure_any(problem, config)

    def binaries(
        self, provider: str, problem: Problem, configs: tuple[AnyConfig | None, ...]
    ) -> tuple[Binaries, ...]:
        """Return, for each config, what ``measure`` compiles and other processes can."""
        measurer = self._measurer(provider)
        return tuple(measurer.binaries_of_any(problem, config) for config in configs)

    def close(self) -> None:
        """Close every measurer, whatever others raise."""
        with ExitStack() as stack:
            for measurer in self._measurers.values():
                stack.callback(measurer.close)

    def _measurer(self, provider: str) -> GpuMeasurer:
        if provider not in self._measurers:
            opened = open_provider(provider, self._testbed.site)
            self._measurers[provider] = GpuMeasurer(opened, self._testbed)
        return self._measurers[provider]


def open_providers(index: int | None, options: MeasurerOptions) -> ProviderMeasurers:
    """Take GPU ``index``, or for None the CPU, for several providers: they share weights, and no
    tensors are kept but those of the problem at hand. Raises DeviceError as ``open_gpu`` does."""
    return ProviderMeasurers(Testbed(take_device(index, options), options, room_bytes=no_room))
