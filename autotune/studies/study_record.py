"""Studies in a storage: made once, found again, with what a dashboard should show."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import optuna
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage
from optuna.study import Study
from optuna.trial import FrozenTrial

from autotune.errors import StorageError
from autotune.studies.key import StudyKey
from autotune.studies.trial_record import Measured, measured

LAYOUT = 1
"""Version of the user attributes below. A reader refuses what is newer."""


@dataclass(frozen=True)
class StoredStudy:
    """A study as the storage has it, read once. ``attrs`` are its user attributes."""

    name: str
    key: StudyKey
    attrs: Mapping[str, Any]
    trials: tuple[FrozenTrial, ...]

    @cached_property
    def measured(self) -> list[Measured]:
        return measured(self.trials)

    @property
    def target(self) -> int:
        """Measurements that its last run wanted."""
        return int(self.attrs.get("target_trials", 0))

    @property
    def is_finished(self) -> bool:
        """True where it has its measurements, or ended before for the reason in ``finished``."""
        return bool(self.attrs.get("finished")) or len(self.measured) >= self.target


def open_study(
    storage: BaseStorage, key: StudyKey, sampler: BaseSampler, attrs: Mapping[str, Any]
) -> Study:
    """Create the study of ``key``, or load it where it exists, and set what ``attrs`` changes."""
    study = optuna.create_study(
        storage=storage,
        study_name=key.study_name,
        sampler=sampler,
        direction="minimize",
        load_if_exists=True,
    )
    present = study.user_attrs
    check_layout(study.study_name, present)
    wanted = {**_columns(key), **attrs, "key": key.as_json(), "layout": LAYOUT}
    for name, value in wanted.items():  # layout last: a study without it is not whole, or not ours
        if name not in present or present[name] != value:
            study.set_user_attr(name, value)
    return study


def stored_studies(storage: BaseStorage) -> list[StoredStudy]:
    """Every study of ours in the storage, by name.

    Left out are other people's, and those that a kill left half made: ``open_study`` mends them.
    """
    found = []
    for frozen in storage.get_all_studies():
        if "layout" not in frozen.user_attrs:
            continue
        check_layout(frozen.study_name, frozen.user_attrs)
        trials = storage.get_all_trials(frozen._study_id, deepcopy=False)
        key = StudyKey.from_json(frozen.user_attrs["key"])
        found.append(StoredStudy(frozen.study_name, key, frozen.user_attrs, tuple(trials)))
    return sorted(found, key=lambda study: study.name)


def check_layout(name: str, attrs: Mapping[str, Any]) -> None:
    """Raises StorageError where a newer autotune wrote the study."""
    layout = attrs.get("layout", LAYOUT)
    if layout > LAYOUT:
        raise StorageError(
            f"study {name!r} was written by a newer autotune (layout {layout}; this one knows "
            f"{LAYOUT}). Upgrade autotune, or use another --storage"
        )


def _columns(key: StudyKey) -> dict[str, Any]:
    """The fields of the key that people look for, under the field's usual names."""
    problem, device = key.problem, key.device
    return {
        "E": problem.experts,
        "N": problem.intermediate,
        "H": problem.hidden,
        "top_k": problem.top_k,
        "M": problem.tokens,
        "dtype": problem.dtype.value,
        "device": f"{device.kind.value}:{device.name}",
        "triton": device.triton_version,
    }
