"""One contract over every kind of storage, each a real one: files, servers, several processes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState
from storages import KINDS, fresh_storage  # type: ignore[import-not-found]
from trials import ask, tell  # type: ignore[import-not-found]

import autotune
from autotune.errors import MissingStorageError
from autotune.spec.config import Config
from autotune.spec.device import Device, DeviceKind, Target
from autotune.spec.measurement import Measurement, typical_us
from autotune.spec.problem import Problem
from autotune.studies.key import StudyKey
from autotune.studies.outcome import Outcome, TrialResult
from autotune.studies.space import Space
from autotune.studies.storage.open import close_storage, open_storage, reading
from autotune.studies.storage.summaries import measured_studies, study_summaries
from autotune.studies.study_record import open_study, stored_studies
from autotune.studies.trial_record import outcome_counts

_DEVICE = Device(DeviceKind.CUDA, "NVIDIA H200", Target("cuda", 90), 232448, "3.6.0")
_SPACE = Space(Config(16, n, 64, g, 4, 3) for n in (32, 64, 128) for g in (1, 8))
_KEY = StudyKey(Problem(8, 2, 512, 256, 64), _DEVICE, _SPACE.fingerprint)
_RESULTS = (
    TrialResult(Outcome.OK, Measurement((5.0, 6.0, 7.0), "fake")),
    TrialResult(Outcome.PRUNED, Measurement((1.0,), "fake")),
    TrialResult(Outcome.WRONG_RESULT, reason="wrong by 3 µs"),
    TrialResult(Outcome.OK, Measurement((4.001, 4.003, 4.252), "fake")),
)


@pytest.fixture(params=KINDS)
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with fresh_storage(request.param, tmp_path, request) as text:
        yield text


def _study(opened: optuna.storages.BaseStorage) -> optuna.Study:
    sampler = optuna.samplers.RandomSampler(seed=1)
    return open_study(opened, _KEY, sampler, {"model": "m", "target_trials": 3})


def test_what_was_told_is_there_when_opened_again(storage: str) -> None:
    opened = open_storage(storage, create=True)
    study = _study(opened)
    for result in _RESULTS:
        tell(study, ask(study, _SPACE), result, default_us=6.0)
    ask(study, _SPACE)
    study.tell(study.ask(), state=TrialState.FAIL)
    study.set_user_attr("note", {"of": ["µs", 1.5, None, True], "long": "x" * 30_000})
    close_storage(opened)
    best_us = typical_us((4.001, 4.003, 4.252))

    opened = open_storage(storage, create=False)
    [whole] = stored_studies(opened)
    assert whole.key == _KEY
    assert whole.attrs.values["note"] == {"of": ["µs", 1.5, None, True], "long": "x" * 30_000}
    assert [trial.number for trial in whole.trials] == list(range(6))
    assert [entry.samples_us for entry in whole.measured] == [
        (5.0, 6.0, 7.0),
        (1.0,),
        (4.001, 4.003, 4.252),
    ]
    with reading(storage) as source:
        [seen] = study_summaries(source)
        [read] = measured_studies(source)
    assert (seen.name, seen.best_us, seen.measured) == (whole.name, best_us, 3)  # to the last bit
    assert seen.outcomes == outcome_counts(whole.trials)
    assert (read.key, read.measured) == (whole.key, whole.measured)
    close_storage(opened)


_TOGETHER = """
import sys
import optuna
from trials import ask, tell  # type: ignore[import-not-found]
from autotune.studies.outcome import Outcome, TrialResult
from autotune.spec.measurement import Measurement
from autotune.studies.storage.open import close_storage, open_storage
from autotune.studies.study_record import (stored_studies)
from test_storage_contract import _SPACE, _study
print("ready", flush=True)
sys.stdin.readline()
opened = open_storage(sys.argv[1], create=True)
study = _study(opened)
for _ in range(4):
    result = TrialResult(Outcome.OK, Measurement((1.0, 2.0, 3.0), "fake"))
    tell(study, ask(study, _SPACE), result, default_us=6.0)
close_storage(opened)
"""


def test_processes_that_make_it_at_the_same_moment_share_it(storage: str) -> None:
    package = Path(autotune.__file__).parents[1]
    paths = [package, Path(__file__).parent, Path(__file__).parents[2]]
    processes = [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", _TOGETHER, storage],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(map(str, paths))},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        _, stderr = process.communicate(timeout=60)
        assert (process.returncode, stderr) == (0, "")
    opened = open_storage(storage, create=False)
    [study] = stored_studies(opened)
    assert [trial.number for trial in study.trials] == list(range(8))
    assert {trial.state for trial in study.trials} == {TrialState.COMPLETE}
    close_storage(opened)


def test_a_queued_trial_goes_to_one_asker(storage: str) -> None:
    opened, other = open_storage(storage, create=True), open_storage(storage, create=True)
    study, same = _study(opened), _study(other)
    study.enqueue_trial({"BLOCK_SIZE_N": 32})
    numbers = [study.ask().number, same.ask().number, study.ask().number]
    assert sorted(numbers) == [0, 1, 2]
    for each in (opened, other):
        each.remove_session()
        close_storage(each)


@pytest.mark.parametrize("kind", KINDS)
def test_what_nobody_made_is_missing_and_stays_so(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    with fresh_storage(kind, tmp_path, request) as text:
        for _ in range(2):
            with pytest.raises(MissingStorageError, match="there is no storage"):
                open_storage(text, create=False)
            with pytest.raises(MissingStorageError), reading(text):
                pass
        assert list(tmp_path.iterdir()) == []
