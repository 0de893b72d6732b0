"""Notes and pictures of studies that no run is keeping."""

from __future__ import annotations

from pathlib import Path

import optuna
from optuna.storages import BaseStorage

from autotune.report.dashboard.note_writer import write_note
from autotune.report.dashboard.notes import Subject
from autotune.studies.study_record import stored_studies
from autotune.tune.stored_results import settings_of, stored_results


def refresh_notes(storage: BaseStorage, folder: Path) -> int:
    """Write what is missing or out of date; returns how many studies have a note.

    For whoever knows that no run is in work: a run keeps its own. Raises OSError where
    ``folder`` cannot be written.
    """
    known = [study for study in stored_studies(storage) if study.measured]
    for stored in known:
        subject = Subject(
            key=stored.key,
            model=str(stored.attrs["model"]),
            sampler=settings_of(stored).sampler,
            entries=stored.measured,
            target=stored.target,
            ended=str(stored.attrs.get("finished", "")),
            results=stored_results(stored),
        )
        study = optuna.load_study(study_name=stored.name, storage=storage)
        has_best = subject.best_us is not None
        write_note(study, subject, known, folder if has_best else None)
    return len(known)
