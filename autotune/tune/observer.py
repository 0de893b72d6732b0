"""What a run tells whoever watches it: displays, notes in the storage, the files' writer."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from autotune.models.shape import ModelShape
from autotune.spec.config import AnyConfig
from autotune.spec.device import Device
from autotune.studies.outcome import TrialResult
from autotune.studies.search.history import StudyHistory
from autotune.tune.tuning_study import TuningStudy


class RunObserver:
    """An observer of a run: each method is called when something happened, and does nothing
    unless a subclass overrides it. All are called in the parent's main thread."""

    def started(
        self,
        shape: ModelShape,
        device: Device,
        studies: Sequence[TuningStudy],
        history: StudyHistory,
    ) -> None:
        """The studies are open; measuring begins. Samplers learn from all of ``history``."""

    def trial_asked(self, study: TuningStudy, worker: int, config: AnyConfig) -> None:
        """The device of the worker of this number turned to a config."""

    def trial_told(self, study: TuningStudy, result: TrialResult) -> None:
        """A trial ended."""

    def study_ended(self, study: TuningStudy) -> None:
        """A study has its measurements, or will get no more."""

    def finals_started(self, study: TuningStudy) -> None:
        """The search is over, and this study's finalists are about to be measured again."""

    def finals_measured(self, study: TuningStudy) -> None:
        """The finalists were measured again, where times are measured at all."""

    def tick(self) -> None:
        """Some time passed."""

    def close(self, is_hurried: Callable[[], bool]) -> None:
        """Nothing more will happen. ``is_hurried`` says, at any moment, whether the user waits for
        the end."""
