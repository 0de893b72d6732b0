"""A Measurer whose work happens in a child process."""

from __future__ import annotations

from functools import cached_property
from typing import cast

from autotune.kernels.config import AnyConfig
from autotune.kernels.device import Device
from autotune.kernels.problem import Problem
from autotune.studies.outcome import TrialResult
from autotune.studies.pruning import Stop
from autotune.studies.space import SearchSpace
from autotune.tune.child import Child


class RemoteMeasurer:
    """Forwards every call and waits for its answer. Raises DeviceError where the child fails."""

    def __init__(self, child: Child) -> None:
        self._child = child

    @cached_property
    def device(self) -> Device:
        return cast(Device, self._child.call("device"))

    def space(self, problem: Problem) -> SearchSpace:
        return cast(SearchSpace, self._child.call("space", problem))

    def prior_us(
        self, problem: Problem, configs: tuple[AnyConfig, ...]
    ) -> tuple[float, ...] | None:
        return cast("tuple[float, ...] | None", self._child.call("prior_us", problem, configs))

    def measure(
        self, problem: Problem, config: AnyConfig, *, stop: Stop | None = None
    ) -> TrialResult:
        return cast(TrialResult, self._child.call("measure", problem, config, stop=stop))

    def close(self) -> None:
        self._child.close()
