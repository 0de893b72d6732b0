"""A SQLite file or a PostgreSQL database, opened as Optuna's storage with a quicker reading.

A worker reads its study several times for each trial, and Optuna's reading goes through the ORM
with six queries, whatever there is to read (``benchmarks/workers`` prints what a trial costs):
``FastRDBStorage`` reads the same trials for a fifth of the CPU time. Optuna's own cache of ended
trials stands in front of this, as it does of the original.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Container, Iterable, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import sqlalchemy as sa
import sqlalchemy.event
from optuna.distributions import BaseDistribution, json_to_distribution
from optuna.storages import RDBStorage
from optuna.storages._rdb import models
from optuna.study._frozen import FrozenStudy
from optuna.trial import FrozenTrial, TrialState

from autotune.errors import MissingStorageError, StorageError
from autotune.studies.storage.retry import DAMAGE
from autotune.studies.storage.schema import (
    ATTR,
    PARAM,
    STEP,
    STUDY,
    SYSTEM,
    TRIAL,
    VALUE,
    Age,
    Schema,
    creating,
    schema_of,
    version_of,
)
from autotune.studies.storage.url import (
    DatabaseAddress,
    ServerAddress,
    SqliteAddress,
    StorageAddress,
)

_BUSY_TIMEOUT_S = 60.0
_CONNECT_TIMEOUT_S = 10
_DRIVERS_WITH_TIMEOUT = ("psycopg", "psycopg2")
_MANY = 500
"""More trials than this are joined by their study: databases limit a statement's parameters."""

_log = logging.getLogger(__name__)
logging.getLogger("alembic").setLevel(logging.WARNING)


def open_database(address: DatabaseAddress, *, create: bool) -> RDBStorage:
    """Open, and with ``create`` make, a SQLite file or a database on a server.

    Raises StorageError as ``open_storage`` does, and the errors of SQLAlchemy and of drivers.
    """
    kwargs = engine_kwargs(address)
    engine = sa.create_engine(address.url, **kwargs)
    try:
        found = schema_of(engine)
        if found is Schema.MISSING and create:
            with creating(engine, address):
                storage = raw_storage(address, kwargs, create=True)
        elif found is Schema.MISSING:
            raise missing(address)
        else:
            check_version(engine, address)
            storage = raw_storage(address, kwargs)
        if isinstance(address, SqliteAddress):
            _persist_wal(engine, address)
    finally:
        engine.dispose()
    if isinstance(address, SqliteAddress):
        sqlalchemy.event.listen(storage.engine, "connect", _sync_less)
        storage.engine.dispose()
    return storage


def raw_storage(
    address: DatabaseAddress, kwargs: dict[str, Any], *, create: bool = False
) -> RDBStorage:
    """Return Optuna's storage, whatever version its schema has. If the schema is not complete,
    Optuna writes its version even without ``create``."""
    return FastRDBStorage(
        address.url.render_as_string(hide_password=False),
        engine_kwargs=kwargs,
        skip_compatibility_check=True,
        skip_table_creation=not create,
    )


def check_version(engine: sa.Engine, address: DatabaseAddress) -> None:
    """Raise StorageError unless the schema, which must be there, is the installed Optuna's."""
    if schema_of(engine) is Schema.ANCIENT:
        version, age = "from before Optuna 1.2", Age.OLDER
    else:
        version, age = version_of(engine)
    if age is Age.OLDER:
        raise StorageError(
            f"{address.public} was written by an older version of Optuna (schema {version}): "
            "nothing was changed. Use 'autotune storage upgrade', which makes a backup first, or "
            "another --storage"
        )
    if age is Age.NEWER:
        raise StorageError(
            f"{address.public} was written by a newer version of Optuna (schema {version}): "
            "nothing was changed. Upgrade Optuna, or use another --storage"
        )


def missing(address: StorageAddress) -> MissingStorageError:
    """Return the error for a storage that nobody has made."""
    where = address.public if isinstance(address, ServerAddress) else address.path
    return MissingStorageError(
        f"there is no storage at {where}; start with 'autotune run' or autotune.tune, or name it"
    )


def engine_kwargs(address: DatabaseAddress) -> dict[str, Any]:
    """Return SQLAlchemy's options. SQLite waits for locks. A server's connections are looked at
    before they are used (it may have restarted), and are few: hundreds of workers may share a
    server's hundred."""
    if isinstance(address, SqliteAddress):
        return {"connect_args": {"timeout": _BUSY_TIMEOUT_S}}
    driver = address.url.drivername.partition("+")[2]
    connect = {"connect_timeout": _CONNECT_TIMEOUT_S} if driver in _DRIVERS_WITH_TIMEOUT else {}
    return {
        "pool_pre_ping": True,
        "pool_size": 2,
        "max_overflow": 8,
        "hide_parameters": True,
        "connect_args": connect,
    }


def _persist_wal(engine: sa.Engine, address: SqliteAddress) -> None:
    """Let readers never wait for the writer. The file remembers it; two must not switch at once."""
    with engine.connect() as connection:
        if connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal":
            return
        with creating(engine, address):
            connection.exec_driver_sql("PRAGMA journal_mode=WAL")


def _sync_less(connection: Any, _record: object) -> None:
    """Sync less often: with WAL, a power cut may lose the last commits, a kill none."""
    cursor = connection.cursor()
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.close()


_STUDIES = sa.select(STUDY.c.study_id, STUDY.c.study_name).order_by(STUDY.c.study_id)
_Rows = dict[int, list[Any]]
_TRIALS = sa.select(
    TRIAL.c.trial_id,
    TRIAL.c.number,
    TRIAL.c.state,
    TRIAL.c.datetime_start,
    TRIAL.c.datetime_complete,
).where(TRIAL.c.study_id == sa.bindparam("study"), TRIAL.c.trial_id > sa.bindparam("after"))
_TRIALS_AND = _TRIALS.union_all(
    sa.select(*_TRIALS.selected_columns).where(
        TRIAL.c.trial_id.in_(sa.bindparam("wanted", expanding=True))
    )
)
"""Statements are made once: to compose one takes as long as to execute it."""


def _details(table: Any, *names: str) -> dict[bool, Any]:
    """Return queries of a table's rows in the order in which they were written: False → those of
    few trials, by their ids; True → those of all trials of a study."""
    columns = [table.c.trial_id, *(table.c[name] for name in names)]
    query = sa.select(*columns).order_by(*table.primary_key.columns)
    of_study = sa.select(TRIAL.c.trial_id).where(TRIAL.c.study_id == sa.bindparam("study"))
    few: Any = sa.bindparam("ids", expanding=True)
    return {
        False: query.where(table.c.trial_id.in_(few)),
        True: query.where(table.c.trial_id.in_(of_study)),
    }


_PARAMS = _details(PARAM, "param_name", "param_value", "distribution_json")
_USER = _details(ATTR, "key", "value_json")
_SYSTEMS = _details(SYSTEM, "key", "value_json")
_VALUES = _details(VALUE, "objective", "value", "value_type")
_STEPS = _details(STEP, "step", "intermediate_value", "intermediate_value_type")


class FastRDBStorage(RDBStorage):
    """Optuna's database storage with the quicker reading that the module tells of."""

    def _get_trials(
        self,
        study_id: int,
        states: Container[TrialState] | None,
        included_trial_ids: set[int],
        trial_id_greater_than: int,
    ) -> list[FrozenTrial]:
        wanted = [i for i in included_trial_ids if i <= trial_id_greater_than]
        if len(wanted) > _MANY:
            return super()._get_trials(study_id, states, included_trial_ids, trial_id_greater_than)
        return read_trials(self.engine, study_id, states, wanted, trial_id_greater_than)

    def get_all_studies(self) -> list[FrozenStudy]:
        """Return every study that can be read: a damaged one, another application's perhaps, is
        left out with a line in the log, where Optuna would read none."""
        try:
            return super().get_all_studies()
        except DAMAGE:
            with self.engine.connect() as connection:
                found = list(connection.execute(_STUDIES))
            each = (self._frozen_study(study_id, name) for study_id, name in found)
            return [study for study in each if study is not None]

    def _frozen_study(self, study_id: int, name: str) -> FrozenStudy | None:
        try:
            return FrozenStudy(
                study_name=name,
                direction=None,
                directions=self.get_study_directions(study_id),
                user_attrs=self.get_study_user_attrs(study_id),
                system_attrs=self.get_study_system_attrs(study_id),
                study_id=study_id,
            )
        except DAMAGE as error:
            say_left_out(name, f"its attributes cannot be read: {error!r:.200}")
            return None


@lru_cache(maxsize=1024)  # a line for each, however often a storage is looked at
def say_left_out(name: str, fault: str) -> None:
    """Say once in the log that a study is left out."""
    _log.warning("left out: study %r: %s", name, fault)


def read_trials(
    engine: sa.Engine,
    study_id: int,
    states: Container[TrialState] | None = None,
    wanted: Sequence[int] = (),
    after: int = -1,
) -> list[FrozenTrial]:
    """Return a study's trials whose ids are ``wanted``, or above ``after``."""
    given: dict[str, Any] = {"study": study_id, "after": after}
    query: Any = _TRIALS
    if wanted:
        query, given["wanted"] = _TRIALS_AND, wanted
    with engine.connect() as connection:
        found = sorted(connection.execute(query, given), key=lambda row: row.trial_id)
        trials = [row for row in found if states is None or row.state in states]
        return _frozen(connection, study_id, trials) if trials else []


def _frozen(connection: sa.Connection, study_id: int, trials: Sequence[Any]) -> list[FrozenTrial]:
    """Return the trials with their parameters, attributes and values: one query a table."""
    ids = [row.trial_id for row in trials]
    is_many = len(ids) > _MANY
    given = {"study": study_id} if is_many else {"ids": ids}

    def rows_of(queries: dict[bool, Any]) -> _Rows:
        rows: _Rows = {}
        for trial_id, *row in connection.execute(queries[is_many], given):
            rows.setdefault(trial_id, []).append(row)
        return rows

    params, user, system, steps = map(rows_of, (_PARAMS, _USER, _SYSTEMS, _STEPS))
    values = rows_of(_VALUES) if any(row.state.is_finished() for row in trials) else {}
    return [
        FrozenTrial(
            number=row.number,
            state=row.state,
            value=None,
            values=_values(values.get(row.trial_id, ())),
            datetime_start=_local(row.datetime_start),
            datetime_complete=_local(row.datetime_complete),
            params={
                name: _distribution(text).to_external_repr(value)
                for name, value, text in params.get(row.trial_id, ())
            },
            distributions={
                name: _distribution(text) for name, _, text in params.get(row.trial_id, ())
            },
            user_attrs=_attrs(user.get(row.trial_id, ())),
            system_attrs=_attrs(system.get(row.trial_id, ())),
            intermediate_values={
                step: models.TrialIntermediateValueModel.stored_repr_to_intermediate_value(*rest)
                for step, *rest in steps.get(row.trial_id, ())
            },
            trial_id=row.trial_id,
        )
        for row in trials
    ]


def _values(rows: Iterable[Any]) -> list[float] | None:
    """Return the values in the order of the objectives."""
    ordered = sorted(rows, key=lambda row: int(row[0]))
    to_value = models.TrialValueModel.stored_repr_to_value
    return [to_value(value, kind) for _, value, kind in ordered] or None


def _attrs(rows: Iterable[Any]) -> dict[str, Any]:
    return {key: json.loads(text) for key, text in rows}


@lru_cache(maxsize=4096)
def _distribution(text: str) -> BaseDistribution:
    """Parse a distribution: ten thousands of rows have some dozens of texts. Nobody changes one."""
    return json_to_distribution(text)


def _local(utc: datetime | None) -> datetime | None:
    """Turn the naive UTC of Optuna's tables into the naive local time of its trials."""
    if utc is None:
        return None
    return utc.replace(tzinfo=UTC).astimezone().replace(tzinfo=None)
