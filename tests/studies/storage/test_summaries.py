"""A summary says the same as reading every trial."""

from __future__ import annotations

from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState
from trials import ask, tell  # type: ignore[import-not-found]

from autotune.errors import StorageError
from autotune.spec.config import Config
from autotune.spec.device import Device, DeviceKind, Target
from autotune.spec.measurement import Measurement
from autotune.spec.problem import Problem
from autotune.studies.key import StudyKey
from autotune.studies.outcome import Outcome, TrialResult
from autotune.studies.space import Space
from autotune.studies.storage import summaries as summaries_module
from autotune.studies.storage.open import open_storage, reading
from autotune.studies.storage.summaries import measured_studies, study_summaries
from autotune.studies.study_record import open_study, stored_studies
from autotune.studies.trial_record import outcome_counts

_DEVICE = Device(DeviceKind.CUDA, "NVIDIA H200", Target("cuda", 90), 232448, "3.6.0")
_SPACE = Space(Config(16, n, 64, g, 4, 3) for n in (32, 64, 128) for g in (1, 8))
_RESULTS = (
    TrialResult(Outcome.OK, Measurement((5.0, 6.0, 7.0), "fake")),
    TrialResult(Outcome.PRUNED, Measurement((1.0,), "fake")),
    TrialResult(Outcome.WRONG_RESULT, reason="wrong"),
    TrialResult(Outcome.OK, Measurement((4.0, 4.5, 4.25), "fake")),
)


@pytest.fixture
def storage(tmp_path: Path) -> str:
    """Two studies of ours, one with every kind of trial, and somebody else's."""
    url = str(tmp_path / "some.db")
    opened = open_storage(url, create=True)
    attrs = {"model": "m", "target_trials": 3}
    for tokens, results in ((1, _RESULTS), (64, ())):
        key = StudyKey(Problem(8, 2, 512, 256, tokens), _DEVICE, _SPACE.fingerprint)
        study = open_study(opened, key, optuna.samplers.RandomSampler(seed=tokens), attrs)
        for result in results:
            tell(study, ask(study, _SPACE), result, default_us=6.0)
        ask(study, _SPACE)
        study.tell(study.ask(), state=TrialState.FAIL)
    foreign = optuna.create_study(storage=opened, study_name="foreign")
    foreign.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=2)
    return url


def test_counts_and_best_are_those_of_the_trials(storage: str) -> None:
    whole = stored_studies(open_storage(storage, create=False))
    with reading(storage) as engine:
        seen = study_summaries(engine)
    assert [g.name for g in seen] == [s.name for s in whole]
    for summary, study in zip(seen, whole, strict=True):
        times = [entry.geomean_us for entry in study.measured if entry.complete]
        assert summary.outcomes == outcome_counts(study.trials)
        assert summary.measured == len(study.measured)
        assert summary.best_us == min(times, default=None)
        assert summary.is_finished == study.is_finished
        assert summary.attrs == study.attrs


def test_measurements_are_those_of_the_trials(storage: str) -> None:
    whole = stored_studies(open_storage(storage, create=False))
    with reading(storage) as engine:
        seen = measured_studies(engine)
    assert [(s.name, s.key, s.measured) for s in seen] == [
        (s.name, s.key, s.measured) for s in whole
    ]


def test_what_is_no_storage_is_refused(tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("This is no database. " * 100)
    for path in (text, tmp_path / "none.db"):
        with pytest.raises(StorageError), reading(str(path)):
            pass


def test_a_measurement_that_comes_meanwhile_does_no_harm(
    storage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever of the queries is first: another worker tells a trial right after it."""
    opened = open_storage(storage, create=False)
    name = next(s.name for s in stored_studies(opened) if not s.measured)
    study = optuna.load_study(study_name=name, storage=opened)
    left = [ask(study, _SPACE)]

    def then_told(query: str) -> None:
        whole = getattr(summaries_module, query)

        def asked(connection: object) -> object:
            found = list(whole(connection)) if query == "_told" else whole(connection)
            while left:
                left.pop()
                tell(study, ask(study, _SPACE), _RESULTS[0], default_us=6.0)
            return found

        monkeypatch.setattr(summaries_module, query, asked)

    then_told("_told")
    then_told("_params")
    with reading(storage) as engine:
        seen = {s.name: s.measured for s in measured_studies(engine)}
    assert len(seen[name]) <= 1
    assert not left
