"""The models of a run: which of them are served, their plans, what is left out and why."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from autotune.engines import Engine
from autotune.errors import AutotuneError
from autotune.models.shape import ModelShape
from autotune.settings import ModelSettings, RunSettings
from autotune.spec.problem import KernelMode, Problem
from autotune.tuning.jobs import Job, jobs_of, model_shape
from autotune.tuning.observer import ModelStudies
from autotune.tuning.serving import serving
from autotune.tuning.tuning_study import StudyPlan, TuningStudy

_log = logging.getLogger(__name__)
_Place = tuple[Problem, str]
"""A problem and the provider that it is measured on: one plan of a run."""
Each = TypeVar("Each")
Kept = TypeVar("Kept")


@dataclass(frozen=True, slots=True)
class RunModel:
    """A model of a run, and the engines that serve it as it is split."""

    settings: ModelSettings
    label: str
    """No other model of the run has it."""
    shape: ModelShape
    serve: tuple[Engine, ...]

    def jobs(self, kernel: KernelMode, chosen: Mapping[str, str]) -> list[Job]:
        """Return the problems of its batch sizes; ``chosen`` are providers by engine."""
        names = [engine.name for engine in self.serve]
        return jobs_of(self.shape, self.settings, names, kernel, chosen, serve=self.serve)


@dataclass(slots=True)
class RunModels:
    """Those that a run tunes. One that cannot be tuned is left out, with a line in the log, unless
    no other is left: then its error is raised."""

    settings: RunSettings
    models: list[RunModel] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    """Label of a model → why it is not tuned."""
    _places: dict[ModelSettings, list[_Place]] = field(default_factory=dict)
    """Model → where its plans are; models of the same layer share some."""

    def __post_init__(self) -> None:
        """Find each model's shape, and who serves it. Raises AutotuneError where none is left."""
        labels = _labels(self.settings.models)
        found = self._kept(labels.items(), lambda m: m[1], lambda m: self._found(*m))
        self.models = found

    @property
    def engines(self) -> tuple[str, ...]:
        """Names of the engines that serve any of them, in the settings' order."""
        serve = {engine.name for model in self.models for engine in model.serve}
        return tuple(name for name in self.settings.engines if name in serve)

    def jobs(self, chosen: Mapping[str, str]) -> list[list[Job]]:
        """Return each model's problems."""
        return [model.jobs(self.settings.kernel, chosen) for model in self.models]

    def keep(self, make: Callable[[RunModel], Kept]) -> list[tuple[RunModel, Kept]]:
        """Return each model with what ``make`` makes of it; one whose AutotuneError it raises is
        left out. Raises that where no model is left."""
        kept = self._kept(self.models, lambda m: m.label, lambda m: (m, make(m)))
        self.models = [model for model, _ in kept]
        return kept

    def plan(self, plans_of: Callable[[RunModel], list[StudyPlan]]) -> list[StudyPlan]:
        """Return the plan of every study, as ``plans_of`` makes each model's; see ``keep``."""
        plans: dict[_Place, StudyPlan] = {}
        for model, of_model in self.keep(plans_of):
            self._places[model.settings] = [_place(plan) for plan in of_model]
            for plan in of_model:
                known = plans.get(_place(plan))
                plans[_place(plan)] = plan if known is None else known.shared_with(plan)
        return list(plans.values())

    def studies(self, studies: Sequence[TuningStudy]) -> list[ModelStudies]:
        """Part the run's studies by model."""
        by_place = {_place(study.plan): study for study in studies}
        return [
            ModelStudies(
                model.settings.name,
                model.label,
                model.settings.shares,
                model.shape,
                [by_place[place] for place in self._places[model.settings]],
            )
            for model in self.models
        ]

    def _found(self, settings: ModelSettings, label: str) -> RunModel:
        shape = model_shape(settings)
        serve = tuple(serving(shape, settings, self.settings.engines))
        return RunModel(settings, label, shape, serve)

    def _kept(
        self, models: Iterable[Each], label: Callable[[Each], str], keep: Callable[[Each], Kept]
    ) -> list[Kept]:
        """Return what ``keep`` makes of each, without those whose AutotuneError it raises."""
        kept: list[Kept] = []
        errors: list[tuple[str, AutotuneError]] = []
        for model in models:
            try:
                kept.append(keep(model))
            except AutotuneError as error:
                errors.append((label(model), error))
        for name, reason in errors if kept else errors[:-1]:
            _log.warning("%s is left out: %s", name, reason)
            self.left_out[name] = str(reason)
        if not kept:
            raise errors[-1][1]
        return kept


def _labels(models: Sequence[ModelSettings]) -> dict[ModelSettings, str]:
    """Return each model's label, with the whole name where several end alike."""
    count = Counter(model.label for model in models)
    return {m: m.label if count[m.label] == 1 else m.whole_label for m in models}


def _place(plan: StudyPlan) -> _Place:
    return plan.job.problem, plan.job.provider
