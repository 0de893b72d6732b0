"""``run --dry-run``: what would run, and how long it would take."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing
from functools import partial
from statistics import median
from typing import Any

from autotune.backends.protocol import Measurer
from autotune.backends.selectors import open_measurer
from autotune.errors import StorageError
from autotune.settings import RunSettings
from autotune.studies.key import StudyKey
from autotune.studies.storage.open import open_storage
from autotune.studies.study_record import StoredStudy, stored_studies
from autotune.studies.trial_record import OUTCOME
from autotune.tune.jobs import jobs_of, model_shape
from autotune.tune.processes.child import Child


def plan_rows(settings: RunSettings, storage_url: str) -> dict[str, Any]:
    """``studies``: one row each; ``summary``: one sentence. Measures and writes nothing."""
    shape = model_shape(settings.model)
    known = {study.name: study for study in _stored(storage_url)}
    rows = []
    with closing(
        Child(partial(open_measurer, settings.device, settings.measurer_options))
    ) as child:
        device = child.call(Measurer.device)
        for job in jobs_of(shape, settings.model, settings.engines, settings.kernel):
            space = child.call(Measurer.space, job.problem)
            key = StudyKey(job.problem, device, space.fingerprint)
            stored = known.get(key.study_name)
            done = len(stored.measured) if stored else 0
            rows.append(
                {
                    "study": key.study_name,
                    "engines": "+".join(engine.name for engine in job.engines),
                    "configs": len(space),
                    "measured": done,
                    "to_measure": max(0, min(settings.trials, len(space)) - done),
                }
            )
    return {"studies": rows, "summary": _summary(rows, settings.jobs, known.values())}


def _stored(url: str) -> list[StoredStudy]:
    try:
        storage = open_storage(url, create=False)
    except StorageError:
        return []  # nothing there yet: all is to do
    try:
        return stored_studies(storage)
    finally:
        storage.remove_session()


def _summary(rows: Iterable[dict[str, Any]], jobs: int, stored: Iterable[StoredStudy]) -> str:
    left = sum(row["to_measure"] for row in rows)
    each = _seconds_per_trial(stored)
    if not left:
        return "nothing to measure: everything is there"
    if each is None:
        return f"{left} measurements; how long is known once this storage has its first ones"
    minutes = left * each / jobs / 60
    return (
        f"{left} measurements, about {minutes:.1f} min at {each:.2f} s each on {jobs} process(es)"
    )


def _seconds_per_trial(stored: Iterable[StoredStudy]) -> float | None:
    """Median over the trials of the storage, from ask to tell."""
    seconds = [
        trial.duration.total_seconds()
        for study in stored
        for trial in study.trials
        if trial.duration is not None and OUTCOME in trial.user_attrs
    ]
    return median(seconds) if seconds else None
