"""A storage's studies in a handful of queries, however many trials, while others write to it.

``study_record.stored_studies`` reads every trial with all of its rows: from a database that takes
tens of seconds at 10,000 trials. A journal can be read in no other way.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from optuna.distributions import json_to_distribution
from optuna.storages import BaseStorage
from optuna.trial import TrialState

from autotune.spec.config import AnyConfig
from autotune.studies.outcome import Outcome
from autotune.studies.storage.raw import Source
from autotune.studies.storage.retry import DAMAGE
from autotune.studies.storage.schema import ATTR, PARAM, TRIAL, VALUE
from autotune.studies.study_attributes import StudyAttributes
from autotune.studies.study_record import MeasuredStudy, StoredStudy, our_studies, stored_studies
from autotune.studies.trial_record import (
    MEASURED,
    OUTCOME,
    SAMPLES_US,
    TrialRecord,
    best_of,
    config_of_params,
    outcome_counts,
    outcome_word,
    record_from,
)


@dataclass(frozen=True, slots=True)
class StudySummary:
    """One study without its trials."""

    name: str
    attrs: StudyAttributes
    measured: int
    best_us: float | None
    """The lowest time of the trials that were measured to the end."""
    outcomes: Mapping[str, int]

    @property
    def is_finished(self) -> bool:
        """See ``StoredStudy.is_finished``."""
        return self.attrs.end is not None or self.measured >= self.attrs.target


def study_summaries(source: Source) -> list[StudySummary]:
    """Return every study of ours, by name; the same that ``stored_studies`` finds."""
    if isinstance(source, BaseStorage):
        return [_summary(study) for study in stored_studies(source)]
    studies = our_studies(source)
    try:
        with source.connect() as connection:
            counts = _counts(connection)
    except DAMAGE:  # read one by one, they tell which it is
        return [_summary(study) for study in stored_studies(source)]
    found = []
    for study_id, name, attrs in studies:
        outcomes: dict[str, int] = {}
        brought, best = 0, math.inf
        for state, outcome, has, count, least in counts.get(study_id, ()):
            word = outcome_word(state, outcome)
            outcomes[word] = outcomes.get(word, 0) + count
            brought += count if has and state in MEASURED else 0
            if state == TrialState.COMPLETE and outcome == Outcome.OK.value and least is not None:
                best = min(best, least)
        best_us = best if math.isfinite(best) else None
        found.append(StudySummary(name, attrs, brought, best_us, outcomes))
    return found


def measured_studies(source: Source) -> Sequence[MeasuredStudy]:
    """Return every study of ours, by name, with what ``trial_record.measured`` finds in each; from
    a database a pair's halves are not told apart."""
    if isinstance(source, BaseStorage):
        return stored_studies(source)
    studies = our_studies(source)
    try:
        entries = _entries(source)
    except DAMAGE:  # read one by one, they tell which it is
        return stored_studies(source)
    return [
        MeasuredStudy(name, attrs.key, attrs, entries.get(study_id, []))
        for study_id, name, attrs in studies
    ]


def _entries(engine: sa.Engine) -> dict[int, list[TrialRecord]]:
    """Study id → what its trials brought. Raises one of ``DAMAGE``."""
    with engine.connect() as connection:
        told = list(_told(connection))
        params = _params(connection)  # after those that have them: others go on measuring
    configs: dict[tuple[tuple[str, int], ...], AnyConfig | None] = {}  # studies share a space
    entries: dict[int, list[TrialRecord]] = {}
    for study_id, trial_id, number, value, outcome, samples in told:
        knobs = tuple(params.get(trial_id, {}).items())
        if knobs not in configs:
            configs[knobs] = config_of_params(dict(knobs))
        attrs = {OUTCOME: json.loads(outcome), SAMPLES_US: json.loads(samples)}
        if (entry := record_from(configs[knobs], attrs, value, number)) is not None:
            entries.setdefault(study_id, []).append(entry)
    return entries


def _summary(study: StoredStudy) -> StudySummary:
    best = best_of(study.measured)
    us = best.geomean_us if best else None
    return StudySummary(
        study.name, study.attrs, len(study.measured), us, outcome_counts(study.trials)
    )


def _told(connection: sa.Connection) -> Iterable[Any]:
    """Study, trial id, number, value, outcome and samples of trials of ours that brought some."""
    outcome, samples = ATTR.alias("outcome"), ATTR.alias("samples")
    query = (
        sa.select(
            TRIAL.c.study_id,
            TRIAL.c.trial_id,
            TRIAL.c.number,
            VALUE.c.value,
            outcome.c.value_json,
            samples.c.value_json,
        )
        .join(VALUE, VALUE.c.trial_id == TRIAL.c.trial_id)
        .join(outcome, _of_trial(outcome, OUTCOME))
        .join(samples, _of_trial(samples, SAMPLES_US))
        .where(TRIAL.c.state.in_(MEASURED))
        .order_by(TRIAL.c.trial_id)
    )
    return connection.execute(query)


def _params(connection: sa.Connection) -> dict[int, dict[str, int]]:
    """Trial id → parameters."""
    query = sa.select(
        PARAM.c.trial_id, PARAM.c.param_name, PARAM.c.param_value, PARAM.c.distribution_json
    )
    choices: dict[str, Sequence[Any]] = {}
    params: dict[int, dict[str, int]] = {}
    for trial_id, name, index, text in connection.execute(query):
        if text not in choices:  # some dozens of texts, some ten thousands of rows
            distribution = json_to_distribution(text)
            choices[text] = getattr(distribution, "choices", ())
        if choices[text]:  # other people's studies may have other parameters
            params.setdefault(trial_id, {})[name] = choices[text][int(index)]
    return params


_Count = tuple[TrialState, str | None, bool, int, float | None]
"""State, outcome, whether there are samples, how many trials, and their smallest value."""


def _counts(connection: sa.Connection) -> dict[int, list[_Count]]:
    outcome, samples = ATTR.alias("outcome"), ATTR.alias("samples")
    has = samples.c.trial_id.is_not(None)
    group = (TRIAL.c.study_id, TRIAL.c.state, outcome.c.value_json, has)
    query = (
        sa.select(*group, sa.func.count(), sa.func.min(VALUE.c.value))
        .select_from(TRIAL)
        .outerjoin(outcome, _of_trial(outcome, OUTCOME))
        .outerjoin(samples, _of_trial(samples, SAMPLES_US))
        .outerjoin(VALUE, VALUE.c.trial_id == TRIAL.c.trial_id)
        .group_by(*group)
    )
    counts: dict[int, list[_Count]] = {}
    for study_id, state, word, there, count, least in connection.execute(query):
        row = (state, json.loads(word) if word else None, bool(there), count, least)
        counts.setdefault(study_id, []).append(row)
    return counts


def _of_trial(table: Any, key: str) -> sa.ColumnElement[bool]:
    return sa.and_(table.c.trial_id == TRIAL.c.trial_id, table.c.key == key)
