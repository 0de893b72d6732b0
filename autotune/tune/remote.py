"""A Measurer whose work happens in a child process."""

from __future__ import annotations

from functools import cached_property
from typing import Any, cast

from autotune.kernels.config import AnyConfig
from autotune.kernels.device import Device
from autotune.kernels.problem import Problem
from autotune.studies.outcome import Outcome, TrialResult
from autotune.studies.pruning import Stop
from autotune.studies.space import SearchSpace
from autotune.tune.child import Child, ChildFault


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


def measure_in(child: Child, timeout_s: float, *args: Any) -> TrialResult:
    """The child's ``measure`` of these arguments. Where it dies, fails or takes too long, that is
    the outcome, and the child is started afresh."""
    child.submit("measure", *args)
    if not child.connection.poll(timeout_s):
        child.restart()
        return TrialResult(Outcome.RUN_TIMEOUT, reason=f"no answer in {timeout_s:g} s")
    answer = child.receive()
    if isinstance(answer, ChildFault):
        child.restart()
        return TrialResult(Outcome.CRASHED, reason=answer.reason)
    assert isinstance(answer, TrialResult)
    return answer
