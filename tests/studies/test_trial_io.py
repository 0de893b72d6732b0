from __future__ import annotations

from dataclasses import replace

import pytest
from optuna.study import Study
from optuna.trial import TrialState
from trials import ask, is_exhausted, tell  # type: ignore[import-not-found]

from autotune.spec.config import Config
from autotune.spec.measurement import Measurement, Resources
from autotune.studies.key import StudyKey
from autotune.studies.outcome import Outcome, TrialResult
from autotune.studies.search.samplers import SAMPLERS
from autotune.studies.space import Space
from autotune.studies.storage.open import open_storage
from autotune.studies.study_record import open_study, stored_studies
from autotune.studies.trial_io import abandon, enqueue
from autotune.studies.trial_record import measured, outcome_counts, record_of, taken_configs

OK = TrialResult(
    Outcome.OK,
    Measurement((4.0, 1.0, 2.0), "test"),
    resources=Resources(registers=128, spill_bytes=0, shared_bytes=4096),
    compile_s=1.5,
)


@pytest.fixture
def study(database: str, key: StudyKey, space: Space) -> Study:
    storage = open_storage(database, create=True)
    return open_study(storage, key, SAMPLERS["random"](space, 0), {"model": "m"})


def test_ok_completes_with_the_mean(study: Study, space: Space) -> None:
    trial = tell(study, ask(study, space), OK, default_us=4.0)
    assert (trial.state, trial.value) == (TrialState.COMPLETE, pytest.approx(2.0))
    assert trial.user_attrs == {
        "outcome": "ok",
        "samples_us": [4.0, 1.0, 2.0],
        "speedup": 2.0,
        "registers": 128,
        "spill_bytes": 0,
        "shared_bytes": 4096,
        "compile_s": 1.5,
    }
    [entry] = measured(study.trials)
    assert (entry.samples_us, entry.geomean_us, entry.complete) == (
        (4.0, 1.0, 2.0),
        trial.value,
        True,
    )


def test_several_routings_complete_with_their_geometric_mean(study: Study, space: Space) -> None:
    both = Measurement((1.0, 100.0, 1.0, 400.0), "test", routings=2)
    trial = tell(study, ask(study, space), replace(OK, measurement=both), default_us=None)
    assert trial.value == pytest.approx(200.0**0.5)
    [entry] = measured(study.trials)
    assert entry.routings == 2


def test_pruned_keeps_what_was_measured(study: Study, space: Space) -> None:
    result = replace(OK, outcome=Outcome.PRUNED, measurement=Measurement((50.0,), "test"))
    trial = tell(study, ask(study, space), result, default_us=None)
    assert (trial.state, trial.value) == (TrialState.PRUNED, 50.0)
    [entry] = measured(study.trials)
    assert not entry.complete


@pytest.mark.parametrize("outcome", [o for o in Outcome if o not in (Outcome.OK, Outcome.PRUNED)])
def test_every_other_outcome_fails_with_its_reason(
    study: Study, space: Space, outcome: Outcome
) -> None:
    trial = tell(study, ask(study, space), TrialResult(outcome, reason="because"), default_us=1.0)
    assert trial.state == TrialState.FAIL
    assert trial.user_attrs == {"outcome": outcome.value, "reason": "because"}
    assert measured(study.trials) == []
    assert outcome_counts(study.trials) == {outcome.value: 1}
    assert len(taken_configs(study.trials)) == 1


HALVES = Measurement.of_columns([(1.23456, 2.0), (3.0, 4.00044)], "test", routings=2)


@pytest.mark.parametrize(
    "result",
    [
        OK,
        replace(OK, measurement=Measurement((1.00049, 2.0005, 30.0), "test", routings=3)),
        replace(OK, measurement=HALVES),
        TrialResult(Outcome.PRUNED, Measurement((5.0,), "test", extrapolated_us=7.5), "slow"),
        TrialResult(Outcome.WRONG_RESULT, Measurement((5.0,), "test"), "wrong"),
        TrialResult(Outcome.CRASHED, reason="gone"),
    ],
    ids=["ok", "routings", "halves", "pruned", "wrong", "crashed"],
)
def test_a_record_made_from_the_result_is_what_the_storage_gives_back(
    study: Study, space: Space, result: TrialResult
) -> None:
    tell(study, ask(study, space), OK, default_us=None)
    asked = ask(study, space)
    tell(study, asked, result, default_us=4.0)
    record = record_of(asked, result)
    assert [record] == [*measured(study.trials)[1:], None][:1]


def test_an_abandoned_config_may_be_asked_again(study: Study, space: Space) -> None:
    asked = ask(study, space)
    assert taken_configs(study.get_trials()) == {asked.config}
    abandon(study, asked)
    assert taken_configs(study.get_trials()) == set()
    assert outcome_counts(study.trials) == {"interrupted": 1}


def test_warm_starts_are_queued_once_and_only_if_feasible(study: Study, space: Space) -> None:
    first, second = space.configs[:2]
    impossible = Config(256, 256, 256, 1, 8, 5)
    enqueue(study, space, [(first, "a"), (first, "again"), (impossible, "b"), (second, "c")])
    enqueue(study, space, [(second, "later")])
    assert [ask(study, space).config for _ in range(2)] == [first, second]
    assert [trial.user_attrs["source"] for trial in study.trials] == ["a", "c"]
    enqueue(study, space, [(first, "known")])
    assert len(study.trials) == 2


def test_nothing_is_queued_beyond_the_goal(study: Study, space: Space) -> None:
    abandon(study, ask(study, space))
    asked = ask(study, space)
    new = [config for config in space.configs[:4] if config != asked.config]
    assert enqueue(study, space, [(config, "a") for config in new], goal=3) == new[:2]
    assert enqueue(study, space, [(new[2], "b")], goal=3) == []


def test_a_space_is_exhausted_when_all_is_taken(database: str, key: StudyKey, space: Space) -> None:
    small = Space(space.configs[:3])
    storage = open_storage(database, create=True)
    study = open_study(storage, key, SAMPLERS["tpe"](small, 0), {"model": "m"})
    while not is_exhausted(study, small):
        tell(study, ask(study, small), OK, default_us=None)
    assert {entry.config for entry in measured(study.trials)} == set(small.configs)
    assert len(study.trials) == 3


def test_the_storage_gives_back_what_was_told(
    study: Study, database: str, key: StudyKey, space: Space
) -> None:
    tell(study, ask(study, space), OK, default_us=4.0)
    study.set_user_attr("target_trials", 1)
    [stored] = stored_studies(open_storage(database, create=False))
    assert stored.key == key
    assert stored.is_finished
    assert stored.attrs.values["E"] == 128
    assert [entry.geomean_us for entry in stored.measured] == [2.0]
