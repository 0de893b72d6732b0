"""The progress of a run, told to a callback and to the log."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from autotune.report.terminal.eta import is_over, still_expected
from autotune.report.terminal.run_display import PlainDisplay
from autotune.spec.config import AnyConfig
from autotune.studies.outcome import TrialResult
from autotune.tuning.observer import RunObserver, RunStart
from autotune.tuning.tuning_study import TuningStudy

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a run is when a trial or a study ends. A study is one batch size of one layer, on one
    kernel."""

    studies: int
    finished: int
    """Studies that will get no more measurements."""
    measured: int
    """Measurements of all studies; what the storage had before is counted."""
    target: int
    """Measurements that are expected in the end, by now: studies end early once they converge."""
    model: str
    """The model of this study, as it is split: "DeepSeek-V3 TP8"."""
    engines: tuple[str, ...]
    """Engines whose files the study is for."""
    batch_size: int
    config: Mapping[str, int | bool] | None
    """The config that was tried, under the keys of the engines' files; None where the study ended.
    """
    outcome: str | None
    """What became of it: "ok", "pruned", "wrong result", …"""
    us: float | None
    """Its time in µs; None where it has none."""
    best_us: float | None
    """The study's best time in µs so far."""
    default_us: float | None
    """Time in µs of what the engine launches by itself; None until that is measured."""


ProgressCallback = Callable[[Progress], object]
"""What it returns is not used; what it raises ends the run."""


class LogDisplay(PlainDisplay):
    """Logs a line for a start and for each study's end, and nothing but by the logger."""

    def interrupted(self, words: str) -> None:
        _log.warning(words)


class ProgressTeller(RunObserver):
    """Tells a callback of every trial and study that ends."""

    def __init__(self, tell: ProgressCallback) -> None:
        self._tell = tell
        self._studies: Sequence[TuningStudy] = ()

    def started(self, start: RunStart) -> None:
        self._studies = start.studies

    def trial_told(self, study: TuningStudy, config: AnyConfig, result: TrialResult) -> None:
        self._tell_of(study, config, result)

    def study_ended(self, study: TuningStudy) -> None:
        self._tell_of(study)

    def _tell_of(
        self,
        study: TuningStudy,
        config: AnyConfig | None = None,
        result: TrialResult | None = None,
    ) -> None:
        measured = sum(len(each.measured) for each in self._studies)
        self._tell(
            Progress(
                studies=len(self._studies),
                finished=sum(is_over(each) for each in self._studies),
                measured=measured,
                target=measured + math.ceil(still_expected(self._studies)),
                model=study.plan.label,
                engines=tuple(engine.name for engine in study.engines),
                batch_size=study.problem.tokens,
                config=config.as_keys() if config else None,
                outcome=result.outcome.value if result else None,
                us=result.measurement.geomean_us if result and result.measurement else None,
                best_us=study.best_us,
                default_us=study.default_us,
            )
        )
