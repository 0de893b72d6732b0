"""The quick reading finds what Optuna's own finds, field by field."""

from __future__ import annotations

import json
import math
from wsgiref.util import setup_testing_defaults

import optuna
import pytest
from optuna.storages import BaseStorage, RDBStorage
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from autotune.studies.storage import database as database_module
from autotune.studies.storage.open import open_storage


@pytest.fixture
def study(database: str) -> Study:
    """Trials of every state, with everything that can hang on one."""
    study = optuna.create_study(
        storage=open_storage(database, create=True), directions=["minimize", "maximize"]
    )
    study.enqueue_trial({"x": 0.5}, user_attrs={"source": "a"})
    for number in range(4):
        trial = study.ask()
        trial.suggest_float("x", 0, 1)
        trial.suggest_categorical("c", (16, True, None, "a"))
        trial.set_user_attr("samples_us", [1.5, number])
        trial.set_user_attr("outcome", "ok")
        if number < 2:
            study.tell(trial, [number, math.inf])
    study.tell(study.trials[2].number, state=TrialState.FAIL)
    study.enqueue_trial({"x": 0.25})
    study.ask()
    one = optuna.create_study(storage=study._storage)
    one.ask().report(math.nan, 0)
    one.ask().report(2.0, 3)
    one.tell(1, state=TrialState.PRUNED)
    study.ask().suggest_int("n", 1, 8, log=True)
    return study


def _plain(trial: FrozenTrial) -> str:
    """Every field; the order of attributes means nothing, and NaN is itself."""
    fields = vars(trial).items()
    return repr({k: sorted(v.items()) if isinstance(v, dict) else v for k, v in fields})


@pytest.mark.parametrize("many", [500, 2])
def test_it_reads_what_optuna_reads(
    study: Study, database: str, many: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "_MANY", many)
    ours, theirs = open_storage(database, create=False), RDBStorage(database)
    for frozen in theirs.get_all_studies():
        expected = theirs.get_all_trials(frozen._study_id)
        found = ours.get_all_trials(frozen._study_id)
        assert [_plain(trial) for trial in found] == [_plain(trial) for trial in expected]
        assert [list(t.params) for t in found] == [list(t.params) for t in expected]
        for state in TrialState:
            one = [t.number for t in theirs.get_all_trials(frozen._study_id, states=(state,))]
            assert one == [t.number for t in ours.get_all_trials(frozen._study_id, states=(state,))]
        some = {expected[0]._trial_id}
        parts = [s._get_trials(frozen._study_id, None, some, 3) for s in (ours, theirs)]
        assert [_plain(trial) for trial in parts[0]] == [_plain(trial) for trial in parts[1]]


def _listed_by_dashboard(storage: BaseStorage) -> set[str]:
    import optuna_dashboard

    environ: dict[str, object] = {"PATH_INFO": "/api/studies"}
    setup_testing_defaults(environ)
    answered: list[str] = []
    body = optuna_dashboard.wsgi(storage)(environ, lambda status, *_: answered.append(status))
    assert answered == ["200 OK"]
    return {each["study_name"] for each in json.loads(b"".join(body))["study_summaries"]}


@pytest.mark.parametrize("kind", ["user", "system"])
def test_one_study_that_cannot_be_read_hides_no_other(
    database: str, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    storage = open_storage(database, create=True)
    for name in ("ours", f"another application's {kind}"):
        study = optuna.create_study(storage=storage, study_name=name)
    study.set_user_attr("layout", "grid")
    storage.set_study_system_attr(study._study_id, "layout", "grid")
    with RDBStorage(database).engine.begin() as connection:
        connection.exec_driver_sql(
            f"UPDATE study_{kind}_attributes SET value_json = '{{' WHERE key = 'layout'"
        )
    assert _listed_by_dashboard(open_storage(database, create=False)) == {"ours"}
    assert optuna.get_all_study_names(storage) == ["ours"]
    said = {r.getMessage() for r in caplog.records}
    [line] = said
    assert f"another application's {kind}" in line


def test_what_ends_elsewhere_is_seen(study: Study, database: str) -> None:
    again = optuna.load_study(
        study_name=study.study_name, storage=open_storage(database, create=False)
    )
    before = again.get_trials(deepcopy=False)
    study.tell(3, [1.0, 2.0])
    study.ask()
    after = again.get_trials(deepcopy=False)
    assert (before[3].state, after[3].state) == (TrialState.RUNNING, TrialState.COMPLETE)
    assert len(after) == len(before) + 1
    assert after[0] is before[0]  # finished: not read again
