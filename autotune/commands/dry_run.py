"""``run --dry-run``: what would run, and how long."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import ExitStack, closing
from dataclasses import replace
from functools import partial
from statistics import median
from typing import Any

from autotune.backends.gpu.providers import chosen_providers
from autotune.backends.protocol import Measurer
from autotune.backends.selectors import open_measurer
from autotune.documents.lookups import ServingRow
from autotune.documents.run import DryRunDocument, PlannedStudy
from autotune.errors import MissingStorageError
from autotune.report.terminal.opening_rows import Asked, lookup_rows, written_to
from autotune.report.terminal.serving_rows import serving_rows
from autotune.settings import RunSettings
from autotune.shown import counted
from autotune.spec.device import Device, DeviceKind
from autotune.studies.key import StudyKey
from autotune.studies.storage.open import opened
from autotune.studies.study_record import StoredStudy, stored_studies
from autotune.studies.trial_record import OUTCOME
from autotune.tuning.jobs import Job
from autotune.tuning.processes.child import Child
from autotune.tuning.run_models import RunModel, RunModels


def planned(settings: RunSettings, storage_url: str) -> DryRunDocument:
    """Return what would run. Measures and writes nothing."""
    models = RunModels(settings)
    known = {study.name: study for study in _stored(storage_url)}
    on_gpu = settings.device.startswith("cuda")
    chosen = chosen_providers(settings.provider, models.engines, on_gpu=on_gpu)
    rows: dict[str, PlannedStudy] = {}
    asked: list[Asked] = []
    serving: list[ServingRow] = []
    with _Devices(settings) as devices:

        def of_model(model: RunModel) -> tuple[list[PlannedStudy], list[Asked]]:
            jobs = model.jobs(settings.kernel, chosen)
            found = [
                _planned(model.label, job, devices.child(job.provider), settings, known)
                for job in jobs
            ]
            kinds = [devices.kind(job.provider) for job in jobs]
            pairs = zip(jobs, kinds, strict=True)
            return found, [(e, job.problem, kind) for job, kind in pairs for e in job.engines]

        for model, (found, served) in models.keep(of_model):
            for row in found:
                rows.setdefault(row.study, row)
            asked += served
            label = model.label if settings.more_models else None
            serving += serving_rows(model.shape, served, label)
    return DryRunDocument(
        studies=tuple(rows.values()),
        left_out=dict(models.left_out),
        summary=_plan_words(rows.values(), settings, known.values()),
        lookups=tuple(lookup_rows(asked, written_to(settings.output_dir))),
        serving=tuple(serving),
    )


def plan_rows(plan: DryRunDocument) -> list[dict[str, Any]]:
    """Return the studies as a table for people has them: without their names, which are long, and
    without the model where it is the only one."""
    several = len({study.model for study in plan.studies}) > 1
    return [_plan_row(study, several=several) for study in plan.studies]


def _plan_row(study: PlannedStudy, *, several: bool) -> dict[str, Any]:
    return {
        "model": study.model if several else None,
        "batch_size": study.batch_size,
        "engines": "+".join(study.engines),
        "configs": study.configs,
        "done": study.measured,
        "left": study.to_measure,
    }


class _Devices:
    """A process for each provider, which says what its device allows; all end with this."""

    def __init__(self, settings: RunSettings) -> None:
        self._settings = settings
        self._children: dict[str, Child] = {}
        self._stack = ExitStack()

    def __enter__(self) -> _Devices:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def child(self, provider: str) -> Child:
        if provider not in self._children:
            settings = self._settings
            options = replace(
                settings.measurer_options, provider=provider, output_dir=settings.output_dir
            )
            child = Child(partial(open_measurer, settings.device, options))
            self._children[provider] = self._stack.enter_context(closing(child))
        return self._children[provider]

    def kind(self, provider: str) -> Device:
        device: Device = self.child(provider).call(Measurer.device)
        return device


def _planned(
    model: str, job: Job, child: Child, settings: RunSettings, known: Mapping[str, StoredStudy]
) -> PlannedStudy:
    space = child.call(Measurer.space, job.problem)
    key = StudyKey(job.problem, child.call(Measurer.device), space.fingerprint)
    stored = known.get(key.study_name)
    done = len(stored.measured) if stored else 0
    return PlannedStudy(
        model=model,
        study=key.study_name,
        batch_size=job.problem.tokens,
        engines=tuple(engine.name for engine in job.engines),
        configs=len(space),
        measured=done,
        to_measure=max(0, min(settings.trials, len(space)) - done),
    )


def _stored(url: str) -> list[StoredStudy]:
    try:
        with opened(url) as storage:
            return stored_studies(storage)
    except MissingStorageError:
        return []  # all is to do


def _plan_words(
    rows: Iterable[PlannedStudy], settings: RunSettings, stored: Iterable[StoredStudy]
) -> str:
    left = sum(row.to_measure for row in rows)
    each = _seconds_per_trial(stored)
    if not left:
        return "nothing is left to do: everything is there"
    kind = DeviceKind(settings.device.partition(":")[0])
    words = counted(left, kind.noun)
    if each is not None:
        minutes = left * each / settings.jobs / 60
        here = " to estimate here" if kind is DeviceKind.ESTIMATE else ""
        words += (
            f", about {minutes:.1f} min{here} at {each:.2f} s each on "
            f"{counted(settings.jobs, 'process', 'processes')}"
        )
    if settings.stop_gain and settings.sampler == "surrogate":
        words = (
            f"at most {words}; most studies end earlier, when the sampler expects too little gain"
        )
    return words if each is not None else f"{words}. How long is known after the first run here"


def _seconds_per_trial(stored: Iterable[StoredStudy]) -> float | None:
    """Median over the trials of the storage, from ask to tell."""
    seconds = [
        trial.duration.total_seconds()
        for study in stored
        for trial in study.trials
        if trial.duration is not None and OUTCOME in trial.user_attrs
    ]
    return median(seconds) if seconds else None
