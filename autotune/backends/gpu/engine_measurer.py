"""Tunes an engine's own kernel: its launch function with the sampled config."""

from __future__ import annotations

from dataclasses import replace

from autotune.backends.estimate.prior import static_us
from autotune.backends.gpu.provider_timer import ProviderTimer
from autotune.backends.hardware import known_spec
from autotune.backends.options import MeasurerOptions
from autotune.errors import DeviceError
from autotune.spec.config import AnyConfig, ConfigPair
from autotune.spec.device import Device
from autotune.spec.limits import why_no_dtype
from autotune.spec.problem import Problem
from autotune.studies.outcome import Outcome, TrialResult
from autotune.studies.pairs import space_of
from autotune.studies.search.pruning import Stop
from autotune.studies.space import SearchSpace, broken_rule


class EngineMeasurer:
    """Implements Measurer: the engine's own launch function with the sampled config.

    Its provider and version are in the device's method, so its studies never mix with ours.
    """

    def __init__(self, timer: ProviderTimer, device: Device, options: MeasurerOptions) -> None:
        """``device`` is the GPU that ``timer`` has taken."""
        self._timer, self._seed = timer, options.seed
        self._device = replace(device, method=f"{timer.version}: {device.method}")

    @property
    def device(self) -> Device:
        """See ``Measurer``."""
        return self._device

    def space(self, problem: Problem) -> SearchSpace:
        """See ``Measurer``: of one config for both GEMMs."""
        reason = why_no_dtype(problem.dtype, self._device.target) or self._timer.why_not(problem)
        if reason:
            raise DeviceError(f"{self._device.name}: {reason}")
        return space_of(problem, self._device)

    def prior_us(
        self, problem: Problem, configs: tuple[AnyConfig, ...]
    ) -> tuple[float, ...] | None:
        """See ``Measurer``."""
        spec = known_spec(self._device.name)
        return static_us(problem, configs, spec, self._seed) if spec else None

    def measure(
        self, problem: Problem, config: AnyConfig, *, stop: Stop | None = None
    ) -> TrialResult:
        """See ``Measurer``. What the engine compiles is not looked into: no registers, no spills,
        and compiling counts as measuring."""
        reason = self._why_not(problem, config)
        if reason is not None:
            return TrialResult(Outcome.INFEASIBLE, reason=reason)
        return self._timer.measure(problem, config, stop=stop)

    def measure_interleaved(
        self, problem: Problem, configs: tuple[AnyConfig, ...]
    ) -> tuple[TrialResult, ...]:
        """See ``Measurer``."""
        reasons = [self._why_not(problem, config) for config in configs]
        fine = [c for c, reason in zip(configs, reasons, strict=True) if reason is None]
        timed = iter(self._timer.measure_interleaved(problem, fine))
        return tuple(
            next(timed) if reason is None else TrialResult(Outcome.INFEASIBLE, reason=reason)
            for reason in reasons
        )

    def close(self) -> None:
        """See ``Measurer``."""
        self._timer.close()

    def _why_not(self, problem: Problem, config: AnyConfig) -> str | None:
        if isinstance(config, ConfigPair):
            return "an engine's own launch takes one config for both GEMMs"
        return broken_rule(problem, self._device, config)
