"""Messages between a run's parent and its workers.

    parent               DescribeSpaces     StartSearch            MeasureFinals…        Leave
    worker   WorkerReady     SpacesDescribed    TrialStarted, TrialFinished, StudyFinished…
                                                SearchFinished         FinalsMeasured…

A worker that cannot go on for a reason that the user can mend sends the AutotuneError itself.
A study is named by its position in ``StartSearch.plans``.
"""

from __future__ import annotations

from dataclasses import dataclass

from autotune.backends.protocol import MeasurerOptions
from autotune.settings import RunSettings
from autotune.spec.config import AnyConfig
from autotune.spec.device import Device
from autotune.spec.problem import Problem
from autotune.studies.lifecycle import StudyEnd
from autotune.studies.outcome import TrialResult
from autotune.studies.selection.finalists import Finalist
from autotune.studies.space import SearchSpace
from autotune.studies.trial_record import TrialRecord
from autotune.tune.tuning_study import StudyPlan


@dataclass(frozen=True, slots=True)
class WorkerSpec:
    """The parts that a worker is started with."""

    device: str
    """Selector, of one GPU where it is one."""
    options: MeasurerOptions
    storage: str
    number: int
    """Its name for people: the GPU's index, or a count from 0."""
    log_level: int = 30
    sampler: str = ""
    """Name of the run's sampler, whose libraries load while the device opens."""


@dataclass(frozen=True, slots=True)
class DescribeSpaces:
    """A question: which configs does your device allow for these problems?"""

    problems: tuple[Problem, ...]


@dataclass(frozen=True, slots=True)
class StartSearch:
    """Tune these until nothing is left, or ``seconds`` have passed."""

    plans: tuple[StudyPlan, ...]
    settings: RunSettings
    seconds: float | None


@dataclass(frozen=True, slots=True)
class MeasureFinals:
    """Measure a study's finalists again."""

    position: int


@dataclass(frozen=True, slots=True)
class Leave:
    """Finish or abandon within a few seconds what is in work, and end."""


@dataclass(frozen=True, slots=True)
class WorkerReady:
    """The device is there."""

    device: Device


@dataclass(frozen=True, slots=True)
class SpacesDescribed:
    """Space and guesses of each problem, in their order."""

    spaces: tuple[tuple[SearchSpace, tuple[float, ...] | None], ...]


@dataclass(frozen=True, slots=True)
class TrialStarted:
    """The device turned to this config."""

    position: int
    config: AnyConfig


@dataclass(frozen=True, slots=True)
class TrialFinished:
    """A trial has ended, and the storage has it."""

    position: int
    result: TrialResult
    entry: TrialRecord | None


@dataclass(frozen=True, slots=True)
class StudyFinished:
    """A study gets no more trials."""

    position: int
    end: StudyEnd | None
    """Why it ended before its target; None for one that reached it."""


@dataclass(frozen=True, slots=True)
class SearchFinished:
    """Nothing is left to do, or nothing more may be done."""

    seconds: float = 0.0
    """Seconds from the first config given to the device to its last answer."""
    busy_s: float = 0.0
    """Seconds of them in which the device verified and timed."""


@dataclass(frozen=True, slots=True)
class FinalsMeasured:
    """The finalists; none where times have no noise."""

    position: int
    finalists: tuple[Finalist, ...]


@dataclass(frozen=True, slots=True)
class WorkerCrashed:
    """The worker cannot go on, and should have been able to."""

    trace: str


@dataclass(frozen=True, slots=True)
class LogLine:
    """A line for the log."""

    level: int
    text: str
