"""Outcome and result of a trial. Expected failure is data; surprise raises."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from autotune.spec.binary import Which
from autotune.spec.measurement import CompileFailure, FailureCause, Measurement, Resources


class Outcome(StrEnum):
    """The closed set of ends of a trial."""

    OK = "ok"
    PRUNED = "pruned"
    INFEASIBLE = "infeasible"
    COMPILE_ERROR = "compile error"
    COMPILE_TIMEOUT = "compile timeout"
    OUT_OF_RESOURCES = "out of resources"
    WRONG_RESULT = "wrong result"
    CRASHED = "crashed"
    RUN_TIMEOUT = "run timeout"


@dataclass(frozen=True, slots=True)
class TrialResult:
    """A Measurer's answer for one config: never an exception for an expected failure.

    ``measurement`` is set for OK and for PRUNED (then with fewer samples);
    ``reason`` is set, in words, for everything else.
    """

    outcome: Outcome
    measurement: Measurement | None = None
    reason: str = ""
    failed_half: Which | None = None
    """The GEMM that the failure is about; None where it may be either."""
    resources: Resources | None = None
    blocks_per_sm: int | None = None
    """Number of its blocks that an SM holds, the fewer of up and down; None where not known."""
    relative_error: float | None = None
    """Largest error against the reference over the checked slice; None where not verified."""
    compile_s: float = 0.0
    """Seconds that the measuring process compiled; few where the binary was in Triton's cache."""
    verify_s: float = 0.0
    """Seconds of the comparison with the reference, and of the first launch."""
    measure_s: float = 0.0
    turn_s: float = 0.0
    """Seconds that another process measured on the same device meanwhile."""
    ahead_s: float = 0.0
    """Seconds that the compile pool spent on it, while other configs were measured."""


def failed_compile(failure: CompileFailure, compile_s: float = 0.0) -> TrialResult:
    """The result of a config that has no binary."""
    timed_out = failure.cause is FailureCause.TIMEOUT
    return TrialResult(
        Outcome.COMPILE_TIMEOUT if timed_out else Outcome.COMPILE_ERROR,
        reason=failure.reason,
        failed_half=failure.which,
        compile_s=compile_s,
    )
