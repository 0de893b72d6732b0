"""A trial's moments in a database: each in one transaction, through Optuna's own tables.

Optuna commits each parameter and each attribute on its own. Here everything that belongs together
is written at once, so that no reader sees a half of it and a kill leaves none;
``benchmarks/workers`` prints what that saves.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from math import inf
from typing import Any

import sqlalchemy as sa
from optuna.distributions import BaseDistribution, distribution_to_json
from optuna.storages import BaseStorage, RDBStorage
from optuna.storages._rdb import models
from optuna.study import Study
from optuna.study._frozen import FrozenStudy
from optuna.trial import FrozenTrial, Trial, TrialState

from autotune.spec.config import config_from_keys
from autotune.studies.storage.journal import JournalTransactions
from autotune.studies.storage.protocol import (
    FIXED,
    WORKER,
    Asked,
    Distributions,
    Params,
    Stand,
    Tally,
    TrialEnd,
    TrialTransactions,
    asked_of,
    queued_trial,
    running_trials,
)
from autotune.studies.storage.schema import (
    ATTR,
    PARAM,
    STEP,
    STUDY,
    STUDY_ATTR,
    SYSTEM,
    TRIAL,
    VALUE,
)

_LOCK = (
    sa.select(STUDY.c.study_id).where(STUDY.c.study_id == sa.bindparam("study")).with_for_update()
)
_INSERT = sa.insert(TRIAL)
_BEFORE = sa.select(sa.func.count()).where(
    TRIAL.c.study_id == sa.bindparam("study"), TRIAL.c.trial_id < sa.bindparam("trial")
)
_NUMBER = (
    sa.update(TRIAL)
    .where(TRIAL.c.trial_id == sa.bindparam("trial"))
    .values(number=sa.bindparam("its_number"))
)
_MOVE = sa.update(TRIAL).where(
    TRIAL.c.trial_id == sa.bindparam("trial"), TRIAL.c.state == sa.bindparam("old")
)
_START = _MOVE.values(state=sa.bindparam("new"), datetime_start=sa.bindparam("now"))
_END = _MOVE.values(state=sa.bindparam("new"), datetime_complete=sa.bindparam("now"))
"""Statements are made once: to compose one takes as long as to execute it."""


def storage_of(study: Study) -> BaseStorage:
    """Return the storage that a study lies in."""
    return study._storage


def study_id_of(study: Study | FrozenStudy) -> int:
    """Return the study's id in its storage."""
    return study._study_id


def trial_id_of(trial: FrozenTrial | Trial) -> int:
    """Return the trial's id in its storage; its ``number`` counts within the study."""
    return trial._trial_id


def transactions_of(study: Study) -> TrialTransactions:
    """Return the writer into the study's storage: by SQL into a database, else by plain calls."""
    database = _database_of(study)
    return JournalTransactions(study._storage) if database is None else RdbTransactions(database)


def set_attributes(study: Study, values: Mapping[str, Any]) -> None:
    """Set attributes of the study; in a database all at once."""
    database = _database_of(study)
    if database is not None:
        RdbTransactions(database).set_attributes(study, values)
        return
    for name, value in values.items():
        study.set_user_attr(name, value)


def _database_of(study: Study) -> RDBStorage | None:
    storage = study._storage
    database = getattr(storage, "_backend", storage)  # Optuna puts a cache before a database
    return database if isinstance(database, RDBStorage) else None


class RdbTransactions(TrialTransactions):
    """Transactions in a SQLite file or a database on a server."""

    signs_at_once = True

    def __init__(self, database: RDBStorage) -> None:
        self.database = database

    def begin(
        self,
        study: Study,
        distributions: Distributions,
        params: Sequence[Params],
        worker: str,
        stand: Stand,
    ) -> list[Asked]:
        """Nobody creates a trial of the study between what ``stand`` reads and this: what does not
        stand never becomes a trial."""
        with self._alone(study) as connection:
            stays = stand([(config_from_keys(each), inf) for each in params])
            chosen = [each for each, it_stays in zip(params, stays, strict=True) if it_stays]
            places = _insert(
                connection, study._study_id, running_trials(distributions, chosen, worker)
            )
        return [asked_of(each, *place) for each, place in zip(chosen, places, strict=True)]

    def set_attributes(self, study: Study, values: Mapping[str, Any]) -> None:
        """Set attributes of the study, whoever else sets the same."""
        study_id = study._study_id
        rows = [
            {"study_id": study_id, "key": key, "value_json": json.dumps(value)}
            for key, value in values.items()
        ]
        mine = STUDY_ATTR.c.study_id == study_id
        with self._alone(study) as connection:
            connection.execute(sa.delete(STUDY_ATTR).where(mine, STUDY_ATTR.c.key.in_(values)))
            _write(connection, {STUDY_ATTR: rows})

    def queue(self, study: Study, choose: Callable[[], Sequence[tuple[Params, Params]]]) -> None:
        """Nobody creates a trial of the study between what ``choose`` reads and this."""
        with self._alone(study) as connection:
            _insert(connection, study._study_id, [queued_trial(*each) for each in choose()])

    def finish(self, ends: Collection[TrialEnd]) -> set[int]:
        if not ends:
            return set()
        with self.database.engine.begin() as connection:
            ended = [
                end
                for end in ends
                if _move(connection, end.trial_id, TrialState.RUNNING, end.state)
            ]
            _insert_ends(connection, ended)
        return {end.trial_id for end in ended}

    def give_back(
        self, study: Study, trial: FrozenTrial, user_attrs: Mapping[str, Any] | None
    ) -> bool:
        with self._alone(study) as connection:
            if not _move(connection, trial._trial_id, TrialState.RUNNING, TrialState.FAIL):
                return False
            if user_attrs is not None:
                _insert(connection, study._study_id, [queued_trial(trial.params, user_attrs)])
        return True

    def tallies(self, studies: Collection[Study]) -> list[Tally]:
        """Two queries, however many trials there are."""
        ids = [study._study_id for study in studies]
        state = sa.select(TRIAL.c.study_id, TRIAL.c.state, sa.func.count())
        state = state.where(TRIAL.c.study_id.in_(ids)).group_by(TRIAL.c.study_id, TRIAL.c.state)
        of_worker = sa.and_(ATTR.c.trial_id == TRIAL.c.trial_id, ATTR.c.key == WORKER)
        worker = sa.select(TRIAL.c.study_id, ATTR.c.value_json).distinct()
        worker = worker.outerjoin(ATTR, of_worker)
        worker = worker.where(TRIAL.c.study_id.in_(ids), TRIAL.c.state == TrialState.RUNNING)
        with self.database.engine.connect() as connection:
            counts = {(row[0], row[1]): row[2] for row in connection.execute(state)}
            at_work: dict[int, set[str]] = {}
            for study_id, text in connection.execute(worker):
                at_work.setdefault(study_id, set()).add(json.loads(text) if text else "")
        return [
            Tally(
                measured=counts.get((each, TrialState.COMPLETE), 0)
                + counts.get((each, TrialState.PRUNED), 0),
                waiting=counts.get((each, TrialState.WAITING), 0),
                running=counts.get((each, TrialState.RUNNING), 0),
                workers=frozenset(at_work.get(each, ())),
            )
            for each in ids
        ]

    def _start(self, trial: FrozenTrial, distributions: Distributions, worker: str) -> bool:
        params, trial_id = trial.system_attrs[FIXED], trial._trial_id
        with self.database.engine.begin() as connection:
            if not _move(connection, trial_id, TrialState.WAITING, TrialState.RUNNING):
                return False
            rows = _param_rows(trial_id, params, distributions)
            _write(connection, {PARAM: rows, ATTR: _attr_rows(trial_id, {WORKER: worker})})
        return True

    @contextmanager
    def _alone(self, study: Study) -> Iterator[sa.Connection]:
        """Open a transaction in which nobody else creates a trial of the study. Others may read,
        and those that are on a server may write: the study's row is locked, as Optuna does when it
        creates one, and in SQLite the database."""
        with self.database.engine.begin() as connection:
            if connection.dialect.name == "sqlite":
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            else:
                connection.execute(_LOCK, {"study": study._study_id}).all()
            yield connection


def _now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)  # as Optuna's tables have it


def _insert(
    connection: sa.Connection, study_id: int, templates: Sequence[FrozenTrial]
) -> list[tuple[int, int]]:
    """Return each new trial's id and number. A number is the count of the trials before it, so
    only one at a time may create trials of a study: see ``_alone``."""
    if not templates:
        return []
    ids = []
    for template in templates:
        began = _now() if template.state == TrialState.RUNNING else None
        row = {"study_id": study_id, "state": template.state, "datetime_start": began}
        ids.append(int(connection.execute(_INSERT, row).inserted_primary_key[0]))  # type: ignore[index]
    count = connection.execute(_BEFORE, {"study": study_id, "trial": ids[0]}).scalar_one()
    places = [(trial_id, count + i) for i, trial_id in enumerate(ids)]
    connection.execute(_NUMBER, [{"trial": i, "its_number": number} for i, number in places])
    rows: dict[Any, list[dict[str, Any]]] = {PARAM: [], ATTR: [], SYSTEM: []}
    for trial_id, trial in zip(ids, templates, strict=True):
        rows[PARAM] += _param_rows(trial_id, trial.params, trial.distributions)
        rows[ATTR] += _attr_rows(trial_id, trial.user_attrs)
        rows[SYSTEM] += _attr_rows(trial_id, trial.system_attrs)
    _write(connection, rows)
    return places


def _move(connection: sa.Connection, trial_id: int, old: TrialState, new: TrialState) -> bool:
    """Move a trial from one state to another; False if it is no longer in the first."""
    given = {"trial": trial_id, "old": old, "new": new, "now": _now()}
    return connection.execute(_END if new.is_finished() else _START, given).rowcount == 1


def _insert_ends(connection: sa.Connection, ends: Sequence[TrialEnd]) -> None:
    finite = models.TrialValueModel.TrialValueType.FINITE
    finite_step = models.TrialIntermediateValueModel.TrialIntermediateValueType.FINITE
    rows: dict[Any, list[dict[str, Any]]] = {ATTR: [], VALUE: [], STEP: []}
    for end in ends:
        trial, value = {"trial_id": end.trial_id}, end.value
        rows[ATTR] += _attr_rows(end.trial_id, end.user_attrs)
        if value is not None:
            rows[VALUE].append(trial | {"objective": 0, "value": value, "value_type": finite})
        if value is not None and end.state == TrialState.PRUNED:
            step = {"intermediate_value": value, "intermediate_value_type": finite_step}
            rows[STEP].append(trial | {"step": 0} | step)
    _write(connection, rows)


def _write(connection: sa.Connection, rows: Mapping[Any, Sequence[dict[str, Any]]]) -> None:
    """Insert each table's rows."""
    for table, values in rows.items():
        if values:
            connection.execute(sa.insert(table), values)


def _param_rows(
    trial_id: int, params: Params, distributions: Mapping[str, BaseDistribution]
) -> list[dict[str, Any]]:
    return [
        {
            "trial_id": trial_id,
            "param_name": name,
            "param_value": distribution.to_internal_repr(params[name]),
            "distribution_json": distribution_to_json(distribution),
        }
        for name, distribution in distributions.items()
    ]


def _attr_rows(trial_id: int, attrs: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {"trial_id": trial_id, "key": key, "value_json": json.dumps(value)}
        for key, value in attrs.items()
    ]
