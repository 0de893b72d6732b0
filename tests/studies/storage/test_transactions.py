"""What is written in one transaction reads as if Optuna had written it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import optuna
import pytest
import sqlalchemy.event
from optuna.distributions import CategoricalDistribution
from optuna.storages import BaseStorage, InMemoryStorage
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState
from storages import KINDS, fresh_storage  # type: ignore[import-not-found]

from autotune.spec.config import Config
from autotune.studies.storage.open import close_storage, open_storage
from autotune.studies.storage.protocol import Asked, Ticket, TrialEnd
from autotune.studies.storage.transactions import (
    RdbTransactions,
    set_attributes,
    storage_of,
    transactions_of,
    trial_id_of,
)

CONFIGS = [Config(32, 64, 64, 1, 4, 2), Config(16, 64, 64, 1, 4, 2), Config(16, 64, 64, 8, 4, 2)]
PARAMS = [config.as_keys() for config in CONFIGS]
CHOICES = {
    name: CategoricalDistribution(sorted({params[name] for params in PARAMS})) for name in PARAMS[0]
}
ATTRS: dict[str, Any] = {"outcome": "ok", "samples_us": [1.5, 2.25], "speedup": 1.1}


@pytest.fixture(params=[*KINDS, "memory"])
def study(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Study]:
    if request.param == "memory":
        yield _study(InMemoryStorage())
        return
    with fresh_storage(request.param, tmp_path, request) as text:
        storage = open_storage(text, create=True)
        yield _study(storage)
        close_storage(storage)


def _study(storage: BaseStorage) -> Study:
    optuna.create_study(storage=storage, study_name="another").ask()
    return optuna.create_study(storage=storage, study_name="study")


def _all(tickets: Sequence[Ticket]) -> list[bool]:
    """Let every trial stand."""
    return [True] * len(tickets)


def _ours(study: Study) -> list[FrozenTrial]:
    """A trial of each fate, by this module."""
    study.enqueue_trial(PARAMS[0], user_attrs={"source": "x"})
    write = transactions_of(study)
    [first] = study.get_trials()
    asked = [Asked(trial_id_of(first), 0, CONFIGS[0])]
    assert write.take(study, [first], CHOICES, "me", _all) == asked
    assert write.take(study, [first], CHOICES, "you", _all) == []
    asked += write.begin(study, CHOICES, [*PARAMS[:2], PARAMS[0]], "me", _all)
    ids = [trial_id_of(trial) for trial in study.get_trials()]
    assert asked == [Asked(ids[i], i, CONFIGS[c]) for i, c in enumerate((0, 0, 1, 0))]
    ends = [
        TrialEnd(ids[0], TrialState.COMPLETE, 1.5, ATTRS),
        TrialEnd(ids[1], TrialState.PRUNED, 9.0, ATTRS),
        TrialEnd(ids[2], TrialState.FAIL, None, {"outcome": "crashed"}),
    ]
    assert write.finish(ends) == set(ids[:3])
    assert write.finish([TrialEnd(ids[0], TrialState.FAIL)]) == set()
    assert write.give_back(study, study.get_trials()[3], {"source": "interrupted"})
    return study.get_trials()


def _optunas(study: Study) -> list[FrozenTrial]:
    """The same by Optuna's own methods."""
    study.enqueue_trial(PARAMS[0], user_attrs={"source": "x"})
    trials = [study.ask(CHOICES)]
    for params in [*PARAMS[:2], PARAMS[0]]:
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
    theirs = optuna.create_study(storage=storage_of(study), study_name="theirs")
    ours = [_plain(trial) for trial in _ours(study)]
    assert ours == [_plain(trial) for trial in _optunas(theirs)]
    assert study.best_value == 1.5


def test_times_are_local_as_optunas_are(study: Study) -> None:
    write = transactions_of(study)
    [asked_of_us] = write.begin(study, CHOICES, PARAMS[:1], "me", _all)
    write.finish([TrialEnd(asked_of_us.trial_id, TrialState.COMPLETE, 1.0)])
    asked = study.ask()
    study.tell(asked, 1.0)
    ours, theirs = study.get_trials()
    assert ours.datetime_complete is not None
    assert theirs.datetime_start is not None
    assert 0 <= (theirs.datetime_start - ours.datetime_complete).total_seconds() < 10
    assert ours.duration is not None
    assert 0 <= ours.duration.total_seconds() < 10


def test_only_one_gets_a_queued_trial_or_gives_a_lost_one_back(study: Study) -> None:
    again = optuna.load_study(study_name="study", storage=storage_of(study))
    [asked] = transactions_of(study).begin(study, CHOICES, PARAMS[:1], "me", _all)
    lost = study.get_trials()[asked.number]
    given = [
        transactions_of(each).give_back(each, lost, {"source": "interrupted"})
        for each in (study, again)
    ]
    assert given == [True, False]
    assert len(study.get_trials(states=(TrialState.WAITING,))) == 1


def test_tallies_count_every_state(study: Study) -> None:
    _ours(study)
    transactions_of(study).begin(study, CHOICES, PARAMS[:2], "me", _all)
    transactions_of(study).begin(study, CHOICES, PARAMS[:1], "you", _all)
    study.ask()
    empty = optuna.create_study(storage=storage_of(study), study_name="empty")
    [tally, nothing] = transactions_of(study).tallies([study, empty])
    assert (tally.measured, tally.waiting, tally.running) == (2, 0, 4)
    assert tally.workers == {"me", "you", ""}
    assert (nothing.measured, nothing.running, nothing.workers) == (0, 0, frozenset())


def test_what_does_not_stand_is_given_up_or_never_made(study: Study) -> None:
    """``stand`` decides when nobody can come between, or knows who came before."""
    write, seen = transactions_of(study), []

    def stand(tickets: Sequence[Ticket]) -> list[bool]:
        seen.append([number for _, number in tickets])
        return [config != CONFIGS[0] for config, _ in tickets]

    asked = write.begin(study, CHOICES, PARAMS, "me", stand)
    assert [each.config for each in asked] == CONFIGS[1:]
    running = study.get_trials(states=(TrialState.RUNNING,))
    assert [trial.number for trial in running] == [each.number for each in asked]
    given_up = study.get_trials(states=(TrialState.FAIL,))
    if math.inf in seen[0]:
        assert given_up == []  # a transaction: no ticket is needed
    else:
        assert seen[0] == [0, 1, 2]
        assert [trial.number for trial in given_up] == [0]
    write.queue(study, lambda: [(params, {"source": "x"}) for params in PARAMS])
    queued = study.get_trials(states=(TrialState.WAITING,))
    taken = write.take(study, queued, CHOICES, "me", stand)
    assert [each.config for each in taken] == CONFIGS[1:]
    assert seen[1] == [trial.number for trial in queued]
    assert study.get_trials()[queued[0].number].state == TrialState.FAIL


def test_a_database_commits_once_for_each_moment(tmp_path: Path) -> None:
    study = optuna.create_study(storage=open_storage(str(tmp_path / "a.db"), create=True))
    write = transactions_of(study)
    assert isinstance(write, RdbTransactions)
    commits: list[object] = []
    sqlalchemy.event.listen(write.database.engine, "commit", commits.append)
    asked = write.begin(study, CHOICES, PARAMS, "me", _all)
    write.finish([TrialEnd(a.trial_id, TrialState.COMPLETE, 1.0, ATTRS) for a in asked])
    assert len(commits) == 2


def test_attributes_read_as_if_optuna_had_set_them(study: Study) -> None:
    set_attributes(study, {"kept": [1, 2], "changed": "before"})
    set_attributes(study, {"changed": {"after": None}, "new": 1.5})
    assert study.user_attrs == {"kept": [1, 2], "changed": {"after": None}, "new": 1.5}
    study.set_user_attr("new", "by Optuna")
    again = optuna.load_study(study_name=study.study_name, storage=storage_of(study))
    assert again.user_attrs["new"] == "by Optuna"
