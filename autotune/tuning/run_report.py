"""The end of a run, summed up: as a whole, and for each of its models."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from autotune.engines import WrittenFile
from autotune.models.shape import ModelShape
from autotune.spec.device import Device
from autotune.tuning.compile_service.pool import PoolSpent
from autotune.tuning.engine_output import Result
from autotune.tuning.observer import ModelStudies
from autotune.tuning.study_words import layer_words
from autotune.tuning.time_line import DeviceTime
from autotune.tuning.tuning_study import TuningStudy


@dataclass(frozen=True, slots=True)
class ModelReport:
    """A model's part of a run."""

    name: str
    label: str
    shares: Mapping[int, float]
    """See ``ModelStudies``."""
    shape: ModelShape
    results: tuple[Result, ...]
    failed: Mapping[str, str]
    """Study name → why it has no measured winner."""
    failed_words: tuple[str, ...]
    """The same for people: layer, batch size and reason of each."""
    unfinished: int
    """Studies that have not all their measurements."""


@dataclass(frozen=True, slots=True)
class RunReport:
    """The end of a run, summed up."""

    models: tuple[ModelReport, ...]
    left_out: Mapping[str, str]
    """Model that could not be tuned beside others → why."""
    device: Device
    files: tuple[WrittenFile, ...]
    measured: int
    """New measurements of this run."""
    interrupted: bool
    unfinished: int
    """Studies that have not all their measurements."""
    seconds: float
    began_s: float = 0.0
    """When it began, on the machine's clock."""
    device_times: Mapping[str, DeviceTime] = field(default_factory=dict)
    """What each worker's device did, by the worker's name."""
    ahead: PoolSpent | None = None
    """Compiles ahead of the devices; None without a compile pool."""

    @property
    def results(self) -> tuple[Result, ...]:
        """Those of every model; what models share is there once."""
        return tuple({id(each): each for model in self.models for each in model.results}.values())

    @property
    def failed(self) -> dict[str, str]:
        """Study name → why it has no measured winner."""
        return {name: reason for model in self.models for name, reason in model.failed.items()}


def unfinished(studies: Iterable[TuningStudy]) -> int:
    """Return how many have not all their measurements."""
    return sum(s.end is None and len(s.measured) < s.target for s in studies)


def model_report(model: ModelStudies, results: Mapping[str, tuple[Result, ...]]) -> ModelReport:
    """Sum up a model; ``results`` are those of every study, by its name."""
    names = [study.key.study_name for study in model.studies]
    failed = {
        study.key: study.ended or "nothing was timed yet"
        for study in model.studies
        if study.best_us is None
    }
    return ModelReport(
        model.name,
        model.label,
        model.shares,
        model.shape,
        tuple(result for name in names for result in results[name]),
        {key.study_name: reason for key, reason in failed.items()},
        tuple(
            f"{layer_words(model.label, key.problem)}, batch size {key.problem.tokens}: {reason}"
            for key, reason in failed.items()
        ),
        unfinished(model.studies),
    )
