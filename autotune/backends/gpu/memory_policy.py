"""A policy for the moment when the device's memory runs out: give something up, and try again."""

from __future__ import annotations

from collections.abc import Callable

from autotune.backends.gpu.device_errors import first_line, is_out_of_memory
from autotune.backends.gpu.tensor_cache import TensorCache
from autotune.spec.problem import Problem
from autotune.studies.outcome import Outcome, TrialResult

Fallback = Callable[[Problem], bool]
"""Gives something up for the problem at hand; False if there is nothing left to give up."""


class MemoryPolicy:
    """Tries again with less. Each failure takes the first fallback that still has something to
    give up: keeping other problems' tensors, then half of the problem's routing instances. Neither
    comes back."""

    def __init__(self, tensors: TensorCache) -> None:
        self._tensors = tensors
        self._fallbacks: tuple[Fallback, ...] = (tensors.keep_no_others, tensors.instances.halve)

    def run(self, problem: Problem, work: Callable[[], TrialResult]) -> TrialResult:
        """Call ``work`` until it fits; OUT_OF_RESOURCES where nothing is left to give up. Tensors
        are released between the calls."""
        while True:
            try:
                return work()
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                reason = first_line(error)
            # Not in the handler: the error holds on to frames, and they to memory.
            has_given_way = any(fallback(problem) for fallback in self._fallbacks)
            self._tensors.release()
            if not has_given_way:
                return TrialResult(Outcome.OUT_OF_RESOURCES, reason=f"device memory: {reason}")
