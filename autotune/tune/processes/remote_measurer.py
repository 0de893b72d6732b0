"""A Measurer whose work happens in a child process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property

from autotune.backends.protocol import Measurer
from autotune.spec.config import AnyConfig
from autotune.spec.device import Device
from autotune.spec.problem import Problem
from autotune.studies.outcome import Outcome, TrialResult
from autotune.studies.search.pruning import Stop
from autotune.studies.space import SearchSpace
from autotune.tune.processes.child import Call, Child, ChildFault
from autotune.tune.processes.dispatch import answer_to


class RemoteMeasurer:
    """Forwards every call and waits for its answer. Raises DeviceError where the child fails."""

    def __init__(self, child: Child) -> None:
        self._child = child

    @cached_property
    def device(self) -> Device:
        return self._child.call(Measurer.device)

    def space(self, problem: Problem) -> SearchSpace:
        return self._child.call(Measurer.space, problem)

    def prior_us(
        self, problem: Problem, configs: tuple[AnyConfig, ...]
    ) -> tuple[float, ...] | None:
        return self._child.call(Measurer.prior_us, problem, configs)

    def measure(
        self, problem: Problem, config: AnyConfig, *, stop: Stop | None = None
    ) -> TrialResult:
        return self._child.call(Measurer.measure, problem, config, stop=stop)

    def measure_interleaved(
        self, problem: Problem, configs: tuple[AnyConfig, ...]
    ) -> tuple[TrialResult, ...]:
        return self._child.call(Measurer.measure_interleaved, problem, configs)

    def close(self) -> None:
        self._child.close()


def result_of(
    answer: TrialResult | ChildFault, timed_out: Outcome = Outcome.RUN_TIMEOUT
) -> TrialResult:
    """Return what a child has measured, or the result of a child that died, failed, or took too
    long, whose outcome is ``timed_out``."""
    if isinstance(answer, TrialResult):
        return answer
    return TrialResult(timed_out if answer.is_timeout else Outcome.CRASHED, reason=answer.reason)


def measure_in(child: Child, timeout_s: float, problem: Problem, config: AnyConfig) -> TrialResult:
    """Measure a config in the child. Where that dies, fails or takes too long, that is the outcome,
    and the child is started afresh."""
    return result_of(answer_to(child, Call.of(Measurer.measure, problem, config), timeout_s))


def measure_interleaved_in(
    child: Child,
    timeout_s: float,
    problem: Problem,
    configs: Sequence[AnyConfig],
    *,
    is_over: Callable[[], bool] = lambda: False,
) -> list[TrialResult]:
    """Measure configs interleaved in the child. Where it dies, fails, or takes longer than
    ``timeout_s``, each config is measured by itself, with as much time: which one is to blame then
    shows. What is left when ``is_over`` says so counts as crashed."""
    call = Call.of(Measurer.measure_interleaved, problem, tuple(configs))
    answer = answer_to(child, call, timeout_s)
    if not isinstance(answer, ChildFault):
        return list(answer)
    return [
        TrialResult(Outcome.CRASHED, reason="interrupted")
        if is_over()
        else measure_in(child, timeout_s, problem, config)
        for config in configs
    ]
