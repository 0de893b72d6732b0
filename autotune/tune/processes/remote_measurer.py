"""A Measurer whose work happens in a child process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, cast

from autotune.spec.config import AnyConfig
from autotune.spec.device import Device
from autotune.spec.problem import Problem
from autotune.studies.outcome import Outcome, TrialResult
from autotune.studies.search.pruning import Stop
from autotune.studies.space import SearchSpace
from autotune.tune.processes.child import Child, ChildFault


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

    def measure_interleaved(
        self, problem: Problem, configs: tuple[AnyConfig, ...]
    ) -> tuple[TrialResult, ...]:
        answer = self._child.call("measure_interleaved", problem, configs)
        return cast("tuple[TrialResult, ...]", answer)

    def close(self) -> None:
        self._child.close()


def measure_in(child: Child, timeout_s: float, *args: Any) -> TrialResult:
    """The child's ``measure`` of these arguments. Where it dies, fails or takes too long, that is
    the outcome, and the child is started afresh."""
    answer = _asked(child, timeout_s, "measure", *args)
    if isinstance(answer, TrialResult):
        return answer
    return TrialResult(
        Outcome.CRASHED if answer else Outcome.RUN_TIMEOUT,
        reason=answer.reason if answer else f"no answer in {timeout_s:g} s",
    )


def measure_interleaved_in(
    child: Child,
    timeout_s: float,
    problem: Problem,
    configs: Sequence[AnyConfig],
    *,
    is_over: Callable[[], bool] = lambda: False,
) -> list[TrialResult]:
    """Return the child's ``measure_interleaved``. Where it dies, fails, or takes longer than
    ``timeout_s``, each config is measured by itself, with as much time: which one is to blame then
    shows. Configs that are left when ``is_over`` says so count as crashed."""
    answer = _asked(child, timeout_s, "measure_interleaved", problem, tuple(configs))
    if answer is not None and not isinstance(answer, ChildFault):
        return list(answer)
    return [
        TrialResult(Outcome.CRASHED, reason="interrupted")
        if is_over()
        else measure_in(child, timeout_s, problem, config)
        for config in configs
    ]


def _asked(child: Child, timeout_s: float, method: str, *args: Any) -> Any:
    """The child's answer; a ChildFault where it gave none, and None where it took too long: it is
    started afresh then."""
    child.submit(method, *args)
    if not child.connection.poll(timeout_s):
        child.restart()
        return None
    answer = child.receive()
    if isinstance(answer, ChildFault):
        child.restart()
    return answer
