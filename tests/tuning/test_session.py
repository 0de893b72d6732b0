from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Timer
from typing import NoReturn

import optuna
import pytest
from optuna.trial import TrialState
from small_landscape import SHAPE, save_landscape  # type: ignore[import-not-found]

from autotune.engines import ENGINES, read_configs, write_configs
from autotune.errors import DeviceError, EngineFileError
from autotune.report.terminal.run_display import PlainDisplay
from autotune.settings import ModelSettings, RunSettings
from autotune.spec.config import Config
from autotune.spec.problem import Problem
from autotune.studies.coordination.leases import Lease
from autotune.studies.lifecycle import EndReason, StudyEnd
from autotune.studies.storage.open import open_storage
from autotune.studies.storage.protocol import TrialEnd
from autotune.studies.storage.transactions import transactions_of
from autotune.studies.study_attributes import write_end, write_search
from autotune.studies.study_record import StoredStudy, open_study, stored_studies
from autotune.studies.trial_record import MEASURED
from autotune.tuning import session
from autotune.tuning.engine_output import Result
from autotune.tuning.observer import RunObserver, RunStart
from autotune.tuning.open_studies import terms_of
from autotune.tuning.run_report import RunReport
from autotune.tuning.session import run
from autotune.tuning.stored_results import stored_results, unfinished_settings
from autotune.tuning.workers.launcher import Launcher

Make = Callable[..., RunSettings]


@pytest.fixture(scope="module")
def five_each(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A storage in which both batch sizes have five measurements."""
    folder = tmp_path_factory.mktemp("five")
    settings = RunSettings(
        model=ModelSettings(shape=SHAPE, batch_sizes=(1, 64)),
        device=f"replay:{save_landscape(folder / 'small.npz')}",
        trials=5,
        sampler="random",
        output_dir=folder / "configs",
        cache_dir=folder / "cache",
    )
    run(settings, str(folder / "autotune.db"))
    return folder / "autotune.db"


@pytest.fixture
def begun(five_each: Path, tmp_path: Path) -> str:
    """A storage of this test's own, with five measurements of each batch size."""
    return f"sqlite:///{shutil.copy(five_each, tmp_path / 'begun.db')}"


def _run(settings: RunSettings, database: str) -> RunReport:
    return run(settings, database, PlainDisplay())


def _stored(database: str) -> list[StoredStudy]:
    return stored_studies(open_storage(database, create=False))


def test_from_a_shape_to_files_that_both_engines_load(settings: Make, database: str) -> None:
    report = _run(settings(sampler="surrogate"), database)
    assert report.failed == {}
    assert (report.measured, report.unfinished, report.interrupted) == (24, 0, False)
    assert len(report.files) == 3  # SGLang has two
    for result in report.results:
        folder = result.folder(settings().output_dir)
        assert folder.name == "replayed"
        found = result.engine.lookup(
            result.engine.env_folder(folder), result.problem, result.device, result.problem.tokens
        )
        assert found is not None
        assert found.config == result.config


def test_the_winner_is_the_fastest_measured_and_never_the_slower_default(
    settings: Make, database: str
) -> None:
    for result in _run(settings(trials=30), database).results:
        winner, default_us = result.winner, result.default_us
        assert winner is not None
        assert default_us is not None
        assert winner.geomean_us <= default_us
        assert winner.geomean_us == min(e.geomean_us for e in result.measured if e.complete)


def test_a_second_identical_run_measures_nothing_and_writes_the_same(
    settings: Make, database: str
) -> None:
    first = _run(settings(), database)
    texts = [file.path.read_text() for file in first.files]
    second = run(settings(), database, launcher=_NoWorkers())
    assert second.measured == 0
    assert [file.path.read_text() for file in second.files] == texts


class _NoWorkers(Launcher):
    def specs(self, *_: object) -> NoReturn:
        raise AssertionError("workers are started")


@pytest.mark.parametrize("change", ["trials", "stop_gain", "waiting", "routing"])
def test_workers_start_where_anything_is_left(settings: Make, begun: str, change: str) -> None:
    make = partial(settings, model=ModelSettings(shape=SHAPE, batch_sizes=(64,)), trials=5)
    assert run(make(), begun, launcher=_NoWorkers()).measured == 0
    [study] = [study for study in _stored(begun) if study.key.problem.tokens == 64]
    storage = open_storage(begun, create=False)
    optuna_study = optuna.load_study(study_name=study.name, storage=storage)
    changes: dict[str, object] = {}
    if change == "trials":
        changes = {"trials": 6}
    elif change == "stop_gain":  # it ended early, under other terms
        changes = {"trials": 6, "stop_gain": 0.01}
        write_end(optuna_study, StudyEnd.converged(0.01))
    elif change == "waiting":
        write_end(optuna_study, StudyEnd.converged(0.01))
        changes = {"trials": 6}
        write_search(optuna_study, terms_of(make(**changes)))
        optuna_study.enqueue_trial(dict(_untried(study)))
    else:
        problem = replace(study.key.problem, routing="zipf:1.2")
        key = replace(study.key, problem=problem)
        rival = open_study(storage, key, optuna.samplers.RandomSampler(), {"model": "m"})
        for trial in study.trials[:1]:
            rival.add_trial(trial)
    with pytest.raises(AssertionError, match="workers are started"):
        run(make(**changes), begun, launcher=_NoWorkers())


def _untried(study: StoredStudy) -> Mapping[str, object]:
    """A config that no trial of the study has."""
    taken = {entry.config for entry in study.measured}
    values = (Config(m, n, 64, 8, 4, 3) for m in (16, 32, 64) for n in (32, 64, 128))
    return next(config for config in values if config not in taken).as_keys()


def test_more_trials_go_on_from_what_is_there(settings: Make, begun: str) -> None:
    assert _run(settings(sampler="surrogate", trials=10), begun).measured == 10
    configs = [[e.config for e in study.measured] for study in _stored(begun)]
    assert [len(set(c)) for c in configs] == [10, 10]


def test_a_study_that_converged_stays_so(settings: Make, database: str) -> None:
    make = partial(settings, sampler="surrogate", trials=40)
    first = _run(make(), database)
    counts = [len(study.measured) for study in _stored(database)]
    assert all(15 <= count < 40 for count in counts)
    assert first.unfinished == 0
    assert all(study.attrs.end.reason is EndReason.CONVERGED for study in _stored(database))
    for study in _stored(database):
        tried = {entry.config for entry in study.measured}
        best = min(study.measured, key=lambda entry: entry.geomean_us).config
        assert {replace(best, group_size_m=size) for size in (1, 8)} <= tried
    assert _run(make(), database).measured == 0
    assert _run(make(stop_gain=0.0), database).measured == 80 - sum(counts)


def test_failures_are_not_measurements(settings: Make, database: str) -> None:
    _run(settings(trials=30, sampler="random"), database)
    study = _stored(database)[0]
    failed = [t for t in study.trials if t.user_attrs.get("outcome") == "compile error"]
    assert len(study.measured) == 30
    assert all(t.state == TrialState.FAIL for t in failed)


def test_a_space_smaller_than_the_trials_ends_well(settings: Make, database: str) -> None:
    model = ModelSettings(shape=SHAPE, batch_sizes=(1,))
    report = _run(settings(trials=1000, sampler="random", model=model), database)
    assert (report.measured, report.unfinished) == (216 - 40, 0)
    [study] = _stored(database)
    assert study.is_finished
    assert study.attrs.end == StudyEnd(EndReason.EXHAUSTED)


def test_an_entry_that_was_not_compared_stays_until_all_is_measured(
    settings: Make, begun: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("autotune.tuning.file_writer._WRITE_S", 0.0)  # while it goes on, too
    mine = Config(128, 256, 64, 1, 8, 3)  # not in the recording
    [study] = [study for study in _stored(begun) if study.key.problem.tokens == 64]
    [sample] = [r for r in stored_results(study) if r.engine.name == "vllm"]
    path = sample.engine.path(sample.folder(settings().output_dir), sample.problem, sample.device)
    write_configs(sample.engine, path, {64: mine}, sample.problem, sample.device)
    assert _run(settings(timeout_s=0.001), begun).unfinished
    assert read_configs(path)[64] == mine
    assert _run(settings(), begun).unfinished == 0
    assert read_configs(path)[64] != mine
    assert read_configs(path.with_name(f"{path.name}.bak"))[64] == mine


def test_timeout_leaves_the_rest_for_resume(settings: Make, database: str) -> None:
    late = settings(timeout_s=0.001)
    report = _run(late, database)
    assert report.measured >= 1  # time counts from the first measurement
    assert report.unfinished == 2
    assert unfinished_settings(_stored(database)) == [late]
    assert unfinished_settings(_stored(database), trials=9, timeout_s=60.0) == [
        replace(late, trials=9, timeout_s=60.0)
    ]
    done = _run(settings(), database)
    assert done.unfinished == 0
    assert unfinished_settings(_stored(database)) == []
    assert unfinished_settings(_stored(database), trials=12) == []
    assert unfinished_settings(_stored(database), trials=13) == [settings(trials=13)]


def test_what_is_interrupted_before_a_measurement_leaves_no_files(
    settings: Make, database: str
) -> None:
    class Hasty(RunObserver):
        def started(self, start: RunStart) -> None:
            os.kill(os.getpid(), signal.SIGINT)

    report = run(settings(), database, Hasty())
    assert report.interrupted
    assert (report.measured, report.files) == (0, ())
    assert list(settings().output_dir.rglob("*.json")) == []


def test_an_interruption_while_workers_start_ends_the_run_at_once(
    settings: Make, database: str
) -> None:
    began = time.monotonic()
    Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        _run(settings(), database)
    assert time.monotonic() - began < 10  # imports of a worker alone may take as long
    assert list(settings().output_dir.rglob("*.json")) == []


def test_trials_that_a_dead_run_left_are_asked_again(settings: Make, begun: str) -> None:
    storage = open_storage(begun, create=False)
    study = optuna.load_study(study_name=_stored(begun)[0].name, storage=storage)
    study.enqueue_trial(dict(study.trials[0].params) | {"BLOCK_SIZE_M": 64, "num_stages": 4})
    lost = study.ask(dict(study.trials[0].distributions))
    _run(settings(trials=6), begun)
    trials = _stored(begun)[0].trials
    assert trials[lost.number].state == TrialState.FAIL
    assert [t.state for t in trials if t.state == TrialState.RUNNING] == []
    again = [t for t in trials if t.params == lost.params and t.state in MEASURED]
    assert len(again) == 1
    assert again[0].user_attrs["source"] == "interrupted"


def test_the_best_of_a_neighbouring_batch_size_is_measured_first(
    settings: Make, database: str
) -> None:
    one = ModelSettings(shape=SHAPE, batch_sizes=(1,))
    _run(settings(model=one), database)
    _run(settings(), database)
    [study] = [study for study in _stored(database) if study.key.problem.tokens == 64]
    hinted = [t.number for t in study.trials if "best at 1 " in t.user_attrs.get("source", "")]
    assert hinted
    assert hinted[0] <= 2  # after the engines' defaults


def test_results_come_from_the_storage_alone(settings: Make, database: str) -> None:
    report = _run(settings(), database)
    again = [result for study in _stored(database) for result in stored_results(study)]
    assert [r.config for r in again] == [r.config for r in report.results]


def test_a_second_look_says_what_the_first_run_decided(settings: Make, database: str) -> None:
    """Files that a run wrote are ours, an entry that was there before is the user's; and one that
    they change to what was never measured is theirs from then on."""
    best, other = Config(32, 64, 64, 8, 4, 3), Config(64, 128, 128, 1, 8, 4)
    sample = _run(settings(output_dir=settings().output_dir / "else"), f"{database}2").results[0]
    path = sample.engine.path(
        sample.folder(settings().output_dir), sample.problem, sample.device
    )  # SGLang's, at 1 token
    write_configs(sample.engine, path, {1: best}, sample.problem, sample.device)
    make = partial(settings, sampler="random", trials=3)

    def kept(results: Iterable[Result]) -> list[tuple[str, int, bool]]:
        return sorted((r.engine.name, r.problem.tokens, r.is_kept) for r in results)

    first = kept(_run(make(), database).results)
    assert ("sglang", 1, True) in first
    assert not all(is_kept for _, _, is_kept in first)
    assert kept(_run(make(), database).results) == first
    assert kept(r for study in _stored(database) for r in stored_results(study)) == first
    write_configs(sample.engine, path, {64: other}, sample.problem, sample.device)
    _run(make(trials=4), database)
    files = {s.key.problem.tokens: s.attrs.users_files for s in _stored(database)}
    assert files == {1: {"sglang": best}, 64: {"sglang": other}}


def test_one_engine(settings: Make, database: str) -> None:
    report = _run(settings(engines=("vllm",)), database)
    assert [result.engine for result in report.results] == [ENGINES["vllm"]] * 2
    assert len(report.files) == 1


def test_a_cache_folder_that_cannot_be_written_is_said(
    settings: Make, database: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    here = settings(device="estimate:NVIDIA_H200", cache_dir=tmp_path / "file" / "cache")
    with pytest.raises(AssertionError, match="workers are started"):
        run(here, database, launcher=_NoWorkers())
    assert f"not kept for later runs: {tmp_path / 'file'} is no folder" in caplog.text


def test_an_output_folder_that_cannot_be_written_is_found_at_once(
    settings: Make, database: str, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EngineFileError, match="cannot be written"):
        _run(settings(output_dir=tmp_path / "file" / "configs"), database)
    assert not Path(database.removeprefix("sqlite:///")).exists()


@pytest.mark.parametrize("device", ["replay:gone.npz", "estimate:Voodoo2", "cpu", "cuda:x"])
def test_a_device_that_is_not_there_leaves_nothing_behind(
    settings: Make, database: str, tmp_path: Path, device: str
) -> None:
    before = set(tmp_path.iterdir())
    with pytest.raises(DeviceError):
        _run(settings(device=device), database)
    assert set(tmp_path.iterdir()) == before


def test_a_storage_in_use_is_joined(settings: Make, begun: str) -> None:
    """Another run has one of the configs in work: it is not measured here too."""
    storage = open_storage(begun, create=False)
    study = optuna.load_study(study_name=_stored(begun)[0].name, storage=storage)
    with Lease(open_storage(begun, create=False), "elsewhere") as other:
        transactions = transactions_of(study)
        [theirs] = transactions.begin(
            study,
            study.trials[0].distributions,
            [dict(study.trials[0].params) | {"num_stages": 4, "num_warps": 8}],
            other.worker,
            lambda _: [True],
        )
        end = TrialEnd(theirs.trial_id, TrialState.FAIL)
        stopped = Timer(6.0, lambda: transactions.finish([end]))
        stopped.start()
        assert _run(settings(trials=6), begun).measured == 2
    trials = study.get_trials()
    assert trials[theirs.number].state == TrialState.FAIL
    assert max(trial.number for trial in trials if trial.value is not None) > theirs.number


def test_a_batch_size_that_was_not_recorded(settings: Make, database: str) -> None:
    model = ModelSettings(shape=SHAPE, batch_sizes=(7,))
    with pytest.raises(DeviceError, match="7"):
        _run(settings(model=model), database)


def test_what_a_first_call_builds_is_begun_with_the_run_and_ends_with_it(
    settings: Make, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[str] = []

    class Builds:
        def __init__(self, provider: str, problem: Problem) -> None:
            heard.append(f"{provider} {problem.tokens}")

        def close(self) -> None:
            heard.append("closed")

    monkeypatch.setattr(session, "builds_ahead", lambda *_: True)
    monkeypatch.setattr(session, "FirstBuilds", Builds)
    _run(settings(compile_jobs=0), database)
    assert heard == []
    _run(settings(), f"{database}2")
    assert heard == ["autotune 1", "closed"]  # once for all batch sizes
