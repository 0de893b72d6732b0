"""What happens to a trial, in as few transactions as there are moments: begun, and ended.

Optuna commits each parameter and each attribute on its own. In a database everything that belongs
together is written here in one transaction, through Optuna's own tables, so that no reader sees a
half of it and a kill leaves none; ``benchmarks/workers`` prints what that saves. Other storages
(a journal, a gRPC server) go through Optuna's methods.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

import sqlalchemy as sa
from optuna.distributions import BaseDistribution, distribution_to_json
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import BaseStorage, RDBStorage
from optuna.storages._rdb import models
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState, create_trial

_STUDY: Any = models.StudyModel.__table__
_TRIAL: Any = models.TrialModel.__table__
_VALUE: Any = models.TrialValueModel.__table__
_PARAM: Any = models.TrialParamModel.__table__
_ATTR: Any = models.TrialUserAttributeModel.__table__
_SYSTEM: Any = models.TrialSystemAttributeModel.__table__
_STEP: Any = models.TrialIntermediateValueModel.__table__

_LOCK = (
    sa.select(_STUDY.c.study_id).where(_STUDY.c.study_id == sa.bindparam("study")).with_for_update()
)
_INSERT = sa.insert(_TRIAL)
_BEFORE = sa.select(sa.func.count()).where(
    _TRIAL.c.study_id == sa.bindparam("study"), _TRIAL.c.trial_id < sa.bindparam("trial")
)
_NUMBER = (
    sa.update(_TRIAL)
    .where(_TRIAL.c.trial_id == sa.bindparam("trial"))
    .values(number=sa.bindparam("its_number"))
)
_MOVE = sa.update(_TRIAL).where(
    _TRIAL.c.trial_id == sa.bindparam("trial"), _TRIAL.c.state == sa.bindparam("old")
)
_START = _MOVE.values(state=sa.bindparam("new"), datetime_start=sa.bindparam("now"))
_END = _MOVE.values(state=sa.bindparam("new"), datetime_complete=sa.bindparam("now"))
"""Statements are made once: to compose one takes as long as to execute it."""

WORKER = "worker"
"""User attribute of a trial: who has it in work. See ``studies.lease``."""
FIXED = "fixed_params"
"""Optuna's system attribute of a queued trial: what it will be asked for."""

_Params = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a trial is: its id in the storage, its number in the study."""

    trial_id: int
    number: int


@dataclass(frozen=True, slots=True)
class TrialEnd:
    """What is written when a trial ends. ``user_attrs`` are new ones."""

    trial_id: int
    state: TrialState
    value: float | None = None
    user_attrs: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Tally:
    """How many trials of a study are in which state."""

    measured: int
    waiting: int
    running: int
    workers: frozenset[str]
    """Who has the running ones; "" for a trial that does not say."""


def begin(
    study: Study,
    distributions: Mapping[str, BaseDistribution],
    params: Sequence[_Params],
    worker: str,
) -> list[Place]:
    """Create running trials, in one transaction: whoever sees one sees its parameters too.

    The distributions are not held against those of earlier trials, as Optuna does for each
    parameter: they are constant for a study.
    """
    templates = _templates(distributions, params, worker)
    database = database_of(study)
    if database is not None:
        with _alone(database, study) as connection:
            return _insert(connection, study._study_id, templates)
    return [_create(study, template) for template in templates]


def begin_chosen(
    study: Study,
    distributions: Mapping[str, BaseDistribution],
    choose: Callable[[], Sequence[_Params]],
    worker: str,
) -> list[tuple[Place, _Params]]:
    """As ``begin``, in a database, of what ``choose`` returns: nobody creates a trial of the study
    between what it reads and this."""
    database = database_of(study)
    assert database is not None
    with _alone(database, study) as connection:
        params = choose()
        places = _insert(connection, study._study_id, _templates(distributions, params, worker))
    return list(zip(places, params, strict=True))


def queue_chosen(study: Study, choose: Callable[[], Sequence[tuple[_Params, _Params]]]) -> None:
    """Queue trials of what ``choose`` returns: parameters and user attributes of each. In a
    database nobody creates a trial of the study between what it reads and this."""
    database = database_of(study)
    if database is None:
        for params, attrs in choose():
            study._storage.create_new_trial(study._study_id, _waiting(params, attrs))
        return
    with _alone(database, study) as connection:
        _insert(connection, study._study_id, [_waiting(*each) for each in choose()])


def take(
    study: Study,
    trial: FrozenTrial,
    distributions: Mapping[str, BaseDistribution],
    worker: str,
) -> bool:
    """Begin a queued trial. False where somebody else was faster."""
    params = trial.system_attrs[FIXED]
    rows = {
        name: (distribution.to_internal_repr(params[name]), distribution)
        for name, distribution in distributions.items()
    }
    database = database_of(study)
    if database is None:
        return _take(study._storage, trial._trial_id, rows, worker)
    with database.engine.begin() as connection:
        if not _move(connection, trial._trial_id, TrialState.WAITING, TrialState.RUNNING):
            return False
        connection.execute(sa.insert(_PARAM), _param_rows(trial._trial_id, rows))
        connection.execute(sa.insert(_ATTR), _attr_rows(trial._trial_id, {WORKER: worker}))
    return True


def finish(study: Study, ends: Sequence[TrialEnd]) -> set[int]:
    """End running trials, of this study or of others in its storage. Returns the ids of those
    that ended now: others had been ended by somebody else, and stay as they are."""
    database = database_of(study)
    if database is None:
        return {end.trial_id for end in ends if _finish(study._storage, end)}
    with database.engine.begin() as connection:
        ended = [
            end for end in ends if _move(connection, end.trial_id, TrialState.RUNNING, end.state)
        ]
        _insert_ends(connection, ended)
    return {end.trial_id for end in ended}


def give_back(study: Study, trial: FrozenTrial, user_attrs: Mapping[str, Any] | None) -> bool:
    """Fail a running trial without an outcome and, unless ``user_attrs`` is None, queue its
    parameters anew with these. False where somebody else has ended it: only one queues it."""
    queued = None if user_attrs is None else _waiting(trial.params, user_attrs)
    database = database_of(study)
    if database is None:
        end = TrialEnd(trial._trial_id, TrialState.FAIL)
        is_ours = _finish(study._storage, end)
        if is_ours and queued is not None:
            study._storage.create_new_trial(study._study_id, queued)
        return is_ours
    with _alone(database, study) as connection:
        if not _move(connection, trial._trial_id, TrialState.RUNNING, TrialState.FAIL):
            return False
        if queued is not None:
            _insert(connection, study._study_id, [queued])
    return True


def tallies(studies: Collection[Study]) -> list[Tally]:
    """One for each study; in a database by two queries, however many trials there are."""
    first = next(iter(studies), None)
    database = database_of(first) if first is not None else None
    if database is None:
        return [_tally(study) for study in studies]
    ids = [study._study_id for study in studies]
    state = sa.select(_TRIAL.c.study_id, _TRIAL.c.state, sa.func.count())
    state = state.where(_TRIAL.c.study_id.in_(ids)).group_by(_TRIAL.c.study_id, _TRIAL.c.state)
    of_worker = sa.and_(_ATTR.c.trial_id == _TRIAL.c.trial_id, _ATTR.c.key == WORKER)
    worker = sa.select(_TRIAL.c.study_id, _ATTR.c.value_json).distinct()
    worker = worker.outerjoin(_ATTR, of_worker)
    worker = worker.where(_TRIAL.c.study_id.in_(ids), _TRIAL.c.state == TrialState.RUNNING)
    with database.engine.connect() as connection:
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


def database_of(study: Study) -> RDBStorage | None:
    """The database behind a study; None where it is another kind of storage."""
    backend = getattr(study._storage, "_backend", study._storage)
    return backend if isinstance(backend, RDBStorage) else None


def _now() -> datetime:
    return datetime.now(timezone.utc).replace(tzinfo=None)  # as Optuna's tables have it


@contextmanager
def _alone(database: RDBStorage, study: Study) -> Iterator[sa.Connection]:
    """A transaction in which nobody else creates a trial of the study. Others may read, and those
    that are on a server may write: the study's row is locked, as Optuna does when it creates one,
    and in SQLite the database."""
    with database.engine.begin() as connection:
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        else:
            connection.execute(_LOCK, {"study": study._study_id}).all()
        yield connection


def _templates(
    distributions: Mapping[str, BaseDistribution], params: Sequence[_Params], worker: str
) -> list[FrozenTrial]:
    return [
        create_trial(
            state=TrialState.RUNNING,
            params=dict(each),
            distributions=dict(distributions),
            user_attrs={WORKER: worker},
        )
        for each in params
    ]


def _waiting(params: _Params, user_attrs: Mapping[str, Any]) -> FrozenTrial:
    return create_trial(
        state=TrialState.WAITING,
        system_attrs={FIXED: dict(params)},
        user_attrs=dict(user_attrs),
    )


def _insert(
    connection: sa.Connection, study_id: int, templates: Sequence[FrozenTrial]
) -> list[Place]:
    """A trial's number is the count of those before it, so creations of a study take turns: see
    ``_alone``."""
    if not templates:
        return []
    ids = [_insert_trial(connection, study_id, template) for template in templates]
    count = connection.execute(_BEFORE, {"study": study_id, "trial": ids[0]}).scalar_one()
    places = [Place(trial_id, count + i) for i, trial_id in enumerate(ids)]
    connection.execute(_NUMBER, [{"trial": p.trial_id, "its_number": p.number} for p in places])
    rows: dict[Any, list[dict[str, Any]]] = {_PARAM: [], _ATTR: [], _SYSTEM: []}
    for place, trial in zip(places, templates, strict=True):
        internal = {
            name: (distribution.to_internal_repr(trial.params[name]), distribution)
            for name, distribution in trial.distributions.items()
        }
        rows[_PARAM] += _param_rows(place.trial_id, internal)
        rows[_ATTR] += _attr_rows(place.trial_id, trial.user_attrs)
        rows[_SYSTEM] += _attr_rows(place.trial_id, trial.system_attrs)
    for table, values in rows.items():
        if values:
            connection.execute(sa.insert(table), values)
    return places


def _insert_trial(connection: sa.Connection, study_id: int, template: FrozenTrial) -> int:
    is_running = template.state == TrialState.RUNNING
    row = {
        "study_id": study_id,
        "state": template.state,
        "datetime_start": _now() if is_running else None,
    }
    return int(connection.execute(_INSERT, row).inserted_primary_key[0])  # type: ignore[index]


def _move(connection: sa.Connection, trial_id: int, old: TrialState, new: TrialState) -> bool:
    """From one state to another; False where it is no longer in the first."""
    given = {"trial": trial_id, "old": old, "new": new, "now": _now()}
    return connection.execute(_END if new.is_finished() else _START, given).rowcount == 1


def _insert_ends(connection: sa.Connection, ends: Sequence[TrialEnd]) -> None:
    valued = [end for end in ends if end.value is not None]
    pruned = [end for end in valued if end.state == TrialState.PRUNED]
    finite = models.TrialValueModel.TrialValueType.FINITE
    finite_step = models.TrialIntermediateValueModel.TrialIntermediateValueType.FINITE
    rows: dict[Any, list[dict[str, Any]]] = {
        _ATTR: [row for end in ends for row in _attr_rows(end.trial_id, end.user_attrs)],
        _VALUE: [
            {"trial_id": e.trial_id, "objective": 0, "value": e.value, "value_type": finite}
            for e in valued
        ],
        _STEP: [
            {
                "trial_id": end.trial_id,
                "step": 0,
                "intermediate_value": end.value,
                "intermediate_value_type": finite_step,
            }
            for end in pruned
        ],
    }
    for table, values in rows.items():
        if values:
            connection.execute(sa.insert(table), values)


def _param_rows(
    trial_id: int, params: Mapping[str, tuple[float, BaseDistribution]]
) -> list[dict[str, Any]]:
    return [
        {
            "trial_id": trial_id,
            "param_name": name,
            "param_value": value,
            "distribution_json": distribution_to_json(distribution),
        }
        for name, (value, distribution) in params.items()
    ]


def _attr_rows(trial_id: int, attrs: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {"trial_id": trial_id, "key": key, "value_json": json.dumps(value)}
        for key, value in attrs.items()
    ]


def _create(study: Study, template: FrozenTrial) -> Place:
    trial_id = study._storage.create_new_trial(study._study_id, template)
    return Place(trial_id, study._storage.get_trial_number_from_id(trial_id))


def _take(
    storage: BaseStorage,
    trial_id: int,
    params: Mapping[str, tuple[float, BaseDistribution]],
    worker: str,
) -> bool:
    try:
        if not storage.set_trial_state_values(trial_id, TrialState.RUNNING):
            return False
    except UpdateFinishedTrialError:
        return False
    storage.set_trial_user_attr(trial_id, WORKER, worker)
    for name, (value, distribution) in params.items():
        storage.set_trial_param(trial_id, name, value, distribution)
    return True


def _finish(storage: BaseStorage, end: TrialEnd) -> bool:
    try:
        for key, value in end.user_attrs.items():
            storage.set_trial_user_attr(end.trial_id, key, value)
        if end.value is not None and end.state == TrialState.PRUNED:
            storage.set_trial_intermediate_value(end.trial_id, 0, end.value)
        values = None if end.value is None else [end.value]
        storage.set_trial_state_values(end.trial_id, end.state, values)
    except UpdateFinishedTrialError:
        return False
    return True


def _tally(study: Study) -> Tally:
    counts = dict.fromkeys(TrialState, 0)
    workers = set()
    for trial in study.get_trials(deepcopy=False):
        counts[trial.state] += 1
        if trial.state == TrialState.RUNNING:
            workers.add(str(trial.user_attrs.get(WORKER, "")))
    return Tally(
        measured=counts[TrialState.COMPLETE] + counts[TrialState.PRUNED],
        waiting=counts[TrialState.WAITING],
        running=counts[TrialState.RUNNING],
        workers=frozenset(workers),
    )
