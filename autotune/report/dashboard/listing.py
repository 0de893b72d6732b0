"""A storage's studies as the dashboard lists them."""

from __future__ import annotations

from typing import Any

from optuna.storages import BaseStorage

from autotune.studies.coordination.leases import LEASES
from autotune.studies.study_attributes import StudyAttributes
from autotune.tuning.study_words import study_names


def list_for_people(storage: BaseStorage) -> None:
    """Have ``storage`` list our studies under names for people, by model and batch size, and
    without our bookkeeping; in the storage nothing changes. For a storage that nobody but the
    dashboard uses: it shows what ``get_all_studies`` lists, and has no other way to name studies.
    """
    every = storage.get_all_studies
    storage.get_all_studies = lambda: _listed(every())  # type: ignore[method-assign]


def _listed(studies: list[Any]) -> list[Any]:
    ours = []
    for study in studies:
        attrs = StudyAttributes(study.user_attrs)
        if attrs.is_ours and attrs.fault is None:
            ours.append((study, (attrs.key, attrs)))
    names = study_names([known for _, known in ours])
    for (study, _), name in zip(ours, names, strict=True):
        study.study_name = name
    return [study for study in studies if study.study_name != LEASES]
