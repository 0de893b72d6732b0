"""Several displays as one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from autotune.models import ModelShape
from autotune.spec.config import AnyConfig
from autotune.spec.device import Device
from autotune.studies.outcome import TrialResult
from autotune.studies.search.history import Known
from autotune.tune.session import Display
from autotune.tune.tuning_study import TuningStudy


class Displays:
    """Passes everything on, in order."""

    def __init__(self, *displays: Display) -> None:
        self._displays = displays

    def started(
        self,
        shape: ModelShape,
        device: Device,
        studies: Sequence[TuningStudy],
        known: Sequence[Known],
    ) -> None:
        for display in self._displays:
            display.started(shape, device, studies, known)

    def trial_asked(self, study: TuningStudy, worker: int, config: AnyConfig) -> None:
        for display in self._displays:
            display.trial_asked(study, worker, config)

    def trial_told(self, study: TuningStudy, result: TrialResult) -> None:
        for display in self._displays:
            display.trial_told(study, result)

    def study_ended(self, study: TuningStudy) -> None:
        for display in self._displays:
            display.study_ended(study)

    def settling(self, study: TuningStudy) -> None:
        for display in self._displays:
            display.settling(study)

    def settled(self, study: TuningStudy) -> None:
        for display in self._displays:
            display.settled(study)

    def tick(self) -> None:
        for display in self._displays:
            display.tick()

    def close(self, is_hurried: Callable[[], bool]) -> None:
        for display in self._displays:
            display.close(is_hurried)
