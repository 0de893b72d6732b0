"""Studies in a storage: made once, found again, read with their trials."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage
from optuna.study import Study
from optuna.trial import FrozenTrial

from autotune.errors import StorageError
from autotune.studies.key import StudyKey
from autotune.studies.selection.finalists import Finalist
from autotune.studies.selection.select import Robust
from autotune.studies.storage.database import say_left_out
from autotune.studies.storage.raw import Source, raw_studies, raw_trials
from autotune.studies.storage.retry import DAMAGE
from autotune.studies.study_attributes import StudyAttributes, attributes_of, write_identity
from autotune.studies.trial_record import TrialRecord, measured


@dataclass(frozen=True, slots=True)
class MeasuredStudy:
    """A study with its measurements as the storage has them, read once."""

    name: str
    key: StudyKey
    attrs: StudyAttributes
    measured: list[TrialRecord]

    @property
    def robust(self) -> Robust:
        return self.attrs.robust

    @property
    def finalists(self) -> Sequence[Finalist]:
        return self.attrs.finalists(len(self.measured), self.robust)

    @property
    def is_finished(self) -> bool:
        """True where it has its measurements, or ended before."""
        return self.attrs.end is not None or len(self.measured) >= self.attrs.target


@dataclass(frozen=True, slots=True)
class StoredStudy(MeasuredStudy):
    """The same with every trial."""

    trials: tuple[FrozenTrial, ...]


def open_study(
    storage: BaseStorage, key: StudyKey, sampler: BaseSampler, attrs: Mapping[str, Any]
) -> Study:
    """Create the study of ``key``, or load it where it exists, and set what ``attrs`` changes.

    Raises StorageError where it exists and cannot be believed.
    """
    study = optuna.create_study(
        storage=storage,
        study_name=key.study_name,
        sampler=sampler,
        direction="minimize",
        load_if_exists=True,
    )
    _check(study)
    write_identity(study, key, attrs)
    return study


def our_studies(source: Source) -> list[tuple[int, str, StudyAttributes]]:
    """Return id, name and attributes of every study of ours, by name.

    Left out are other people's, those that a kill left half made, which ``open_study`` mends, and
    with a line in the log those that cannot be believed.
    """
    found = []
    for raw in raw_studies(source):
        attrs = StudyAttributes(raw.attrs)
        if not attrs.is_ours:
            continue
        if (fault := attrs.fault) is not None:
            say_left_out(raw.name, fault)
        else:
            found.append((raw.study_id, raw.name, attrs))
    return found


def stored_studies(source: Source) -> list[StoredStudy]:
    """Return every study of ``our_studies`` with its trials, unless these cannot be read."""
    found = []
    for study_id, name, attrs in our_studies(source):
        try:
            trials = raw_trials(source, study_id)
            found.append(StoredStudy(name, attrs.key, attrs, measured(trials), trials))
        except DAMAGE as error:
            say_left_out(name, f"its trials cannot be read: {error!r:.200}")
    return found


def _check(study: Study) -> None:
    """Raise StorageError where a study that exists is not as we write it."""
    try:
        attrs = attributes_of(study)
        fault = attrs.fault if attrs.is_ours else None
    except DAMAGE as error:
        fault = f"its attributes cannot be read: {error!r:.200}"
    if fault is not None:
        raise StorageError(
            f"study {study.study_name!r}: {fault}. Nothing was changed. Use another --storage, or "
            "a newer autotune where one wrote this"
        )
