"""A storage's studies as they are written, whoever wrote them, and whatever became of them since.

Optuna reads every study's attributes at once, and one that is no JSON stops it: here that is one
value which cannot be read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from optuna.storages import BaseStorage, RDBStorage
from optuna.trial import FrozenTrial

from autotune.studies.storage.database import read_trials
from autotune.studies.storage.retry import DAMAGE
from autotune.studies.storage.schema import STUDY, STUDY_ATTR
from autotune.studies.storage.transactions import study_id_of

Source = sa.Engine | BaseStorage
"""A storage as ``open.reading`` or ``open.opened`` opens it."""
UNREADABLE = object()
"""The value of an attribute that is no JSON."""


@dataclass(frozen=True, slots=True)
class RawStudy:
    """One study with its user attributes, none of them checked."""

    study_id: int
    name: str
    attrs: Mapping[str, Any]


def raw_studies(source: Source) -> list[RawStudy]:
    """Return every study, by name."""
    if not isinstance(source, sa.Engine | RDBStorage):
        frozen = source.get_all_studies()
        found = [RawStudy(study_id_of(each), each.study_name, each.user_attrs) for each in frozen]
        return sorted(found, key=lambda study: study.name)
    engine = source.engine if isinstance(source, RDBStorage) else source
    attrs: dict[int, dict[str, Any]] = {}
    with engine.connect() as connection:
        for study_id, name, text in connection.execute(
            sa.select(STUDY_ATTR.c.study_id, STUDY_ATTR.c.key, STUDY_ATTR.c.value_json)
        ):
            attrs.setdefault(study_id, {})[name] = _value(text)
        names = connection.execute(
            sa.select(STUDY.c.study_id, STUDY.c.study_name).order_by(STUDY.c.study_name)
        )
        return [RawStudy(i, str(name), attrs.get(i, {})) for i, name in names]


def raw_trials(source: Source, study_id: int) -> tuple[FrozenTrial, ...]:
    """Return a study's trials. Raises one of ``DAMAGE`` where they cannot be read."""
    if isinstance(source, sa.Engine):
        return tuple(read_trials(source, study_id))
    return tuple(source.get_all_trials(study_id, deepcopy=False))


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except DAMAGE:
        return UNREADABLE
