"""What is written in one transaction reads as if Optuna had written it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
import pytest
import sqlalchemy.event
from optuna.distributions import CategoricalDistribution
from optuna.storages import InMemoryStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from autotune.studies.storage.open import open_storage
from autotune.studies.storage.rdb_transactions import (
    TrialEnd,
    begin,
    database_of,
    finish,
    give_back,
    take,
    tallies,
)

CHOICES = {"a": CategoricalDistribution((16, 32)), "b": CategoricalDistribution((False, True))}
PARAMS = [{"a": 32, "b": False}, {"a": 16, "b": True}]
ATTRS: dict[str, Any] = {"outcome": "ok", "samples_us": [1.5, 2.25], "speedup": 1.1}


@pytest.fixture(params=["database", "journal", "memory"])
def study(request: pytest.FixtureRequest, tmp_path: Path) -> Study:
    if request.param == "database":
        storage: Any = open_storage(str(tmp_path / "a.db"), create=True)
    elif request.param == "journal":
        storage = JournalStorage(JournalFileBackend(str(tmp_path / "a.log")))
    else:
        storage = InMemoryStorage()
    optuna.create_study(storage=storage, study_name="another").ask()
    return optuna.create_study(storage=storage, study_name="study")


def _ours(study: Study) -> list[FrozenTrial]:
    """A trial of each fate, by this module."""
    study.enqueue_trial(PARAMS[0], user_attrs={"source": "x"})
    assert take(study, study.get_trials()[0], CHOICES, "me")
    assert not take(study, study.get_trials()[0], CHOICES, "you")
    places = begin(study, CHOICES, [*PARAMS, PARAMS[0]], "me")
    assert [place.number for place in places] == [1, 2, 3]
    ids = [trial._trial_id for trial in study.get_trials()]
    assert [place.trial_id for place in places] == ids[1:]
    ends = [
        TrialEnd(ids[0], TrialState.COMPLETE, 1.5, ATTRS),
        TrialEnd(ids[1], TrialState.PRUNED, 9.0, ATTRS),
        TrialEnd(ids[2], TrialState.FAIL, None, {"outcome": "crashed"}),
    ]
    assert finish(study, ends) == set(ids[:3])
    assert finish(study, [TrialEnd(ids[0], TrialState.FAIL)]) == set()
    assert give_back(study, study.get_trials()[3], {"source": "interrupted"})
    return study.get_trials()


def _optunas(study: Study) -> list[FrozenTrial]:
    """The same by Optuna's own methods."""
    study.enqueue_trial(PARAMS[0], user_attrs={"source": "x"})
    trials = [study.ask(CHOICES)]
    for params in [*PARAMS, PARAMS[0]]:
        study.enqueue_trial(params)
        trials.append(study.ask(CHOICES))
    for trial in trials:
        trial.set_user_attr("worker", "me")
    for trial in trials[:2]:
        for key, value in ATTRS.items():
            trial.set_user_attr(key, value)
    study.tell(trials[0], 1.5)
    trials[1].report(9.0, step=0)
    study.tell(trials[1], state=TrialState.PRUNED)
    trials[2].set_user_attr("outcome", "crashed")
    study.tell(trials[2], state=TrialState.FAIL)
    study.tell(trials[3], state=TrialState.FAIL)
    study.enqueue_trial(PARAMS[0], user_attrs={"source": "interrupted"})
    return study.get_trials()


def _plain(trial: FrozenTrial) -> dict[str, Any]:
    return {
        "number": trial.number,
        "state": trial.state,
        "values": trial.values,
        "params": trial.params,
        "distributions": trial.distributions,
        "user_attrs": trial.user_attrs,
        "intermediate_values": trial.intermediate_values,
        "began": trial.datetime_start is not None,
        "ended": trial.datetime_complete is not None,
    }


def test_it_reads_as_if_optuna_had_written_it(study: Study) -> None:
    theirs = optuna.create_study(storage=study._storage, study_name="theirs")
    ours = [_plain(trial) for trial in _ours(study)]
    assert ours == [_plain(trial) for trial in _optunas(theirs)]
    assert study.best_value == 1.5


def test_times_are_local_as_optunas_are(study: Study) -> None:
    [place] = begin(study, CHOICES, PARAMS[:1], "me")
    finish(study, [TrialEnd(place.trial_id, TrialState.COMPLETE, 1.0)])
    asked = study.ask()
    study.tell(asked, 1.0)
    ours, theirs = study.get_trials()
    assert ours.datetime_complete is not None
    assert theirs.datetime_start is not None
    assert 0 <= (theirs.datetime_start - ours.datetime_complete).total_seconds() < 10
    assert ours.duration is not None
    assert 0 <= ours.duration.total_seconds() < 10


def test_only_one_gets_a_queued_trial_or_gives_a_lost_one_back(study: Study) -> None:
    again = optuna.load_study(study_name="study", storage=study._storage)
    [place] = begin(study, CHOICES, PARAMS[:1], "me")
    lost = study.get_trials()[place.number]
    given = [give_back(each, lost, {"source": "interrupted"}) for each in (study, again)]
    assert given == [True, False]
    assert len(study.get_trials(states=(TrialState.WAITING,))) == 1


def test_tallies_count_every_state(study: Study) -> None:
    _ours(study)
    study.ask()
    begin(study, CHOICES, PARAMS, "me")
    begin(study, CHOICES, PARAMS[:1], "you")
    empty = optuna.create_study(storage=study._storage, study_name="empty")
    [tally, nothing] = tallies([study, empty])
    assert (tally.measured, tally.waiting, tally.running) == (2, 0, 4)
    assert tally.workers == {"me", "you", ""}
    assert (nothing.measured, nothing.running, nothing.workers) == (0, 0, frozenset())


def test_a_database_commits_once_for_each_moment(tmp_path: Path) -> None:
    study = optuna.create_study(storage=open_storage(str(tmp_path / "a.db"), create=True))
    database = database_of(study)
    assert database is not None
    commits: list[object] = []
    sqlalchemy.event.listen(database.engine, "commit", commits.append)
    places = begin(study, CHOICES, PARAMS, "me")
    finish(study, [TrialEnd(p.trial_id, TrialState.COMPLETE, 1.0, ATTRS) for p in places])
    assert len(commits) == 2
