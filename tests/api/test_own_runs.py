"""Paths in a storage count where a run of this user on this machine wrote them, else never."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from bad_storages import sound_storage  # type: ignore[import-not-found]

from autotune.api.own_runs import is_own, placed, remember
from autotune.cli import run_command_line
from autotune.studies.storage.open import opened
from autotune.studies.study_record import StoredStudy, stored_studies
from autotune.tuning.stored_results import output_folder, settings_of


@pytest.fixture
def studies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[StoredStudy]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    sound_storage(tmp_path / "s.db")
    with opened("s.db") as storage:
        return stored_studies(storage)


def test_paths_of_others_are_not_used(studies: list[StoredStudy], tmp_path: Path) -> None:
    settings = dict(studies[0].attrs.settings)
    settings |= {"output_dir": "/etc", "cache_dir": "/etc", "warm_starts": ["/etc/passwd"]}
    settings["model"] = settings["model"] | {"topk_ids_dir": "/etc"}
    theirs = replace(studies[0], attrs=studies[0].attrs.with_settings(settings))
    here = settings_of(placed([theirs])[0])
    assert here.output_dir == tmp_path / "configs"
    assert here.cache_dir == tmp_path / "cache" / "autotune"
    assert (here.warm_starts, here.model.topk_ids_dir) == ((), None)
    assert output_folder(placed([theirs], Path("mine"))[0]) == tmp_path / "mine"


def test_paths_of_an_own_run_are_used(studies: list[StoredStudy], tmp_path: Path) -> None:
    settings = {**studies[0].attrs.settings, "output_dir": str(tmp_path / "elsewhere")}
    own = replace(studies[0], attrs=studies[0].attrs.with_settings(settings))
    assert not is_own(settings)
    remember(settings)
    assert is_own(json.loads(json.dumps(settings)))
    assert not is_own(settings | {"output_dir": "/etc"})
    assert output_folder(placed([own])[0]) == tmp_path / "elsewhere"
    assert output_folder(placed([own], Path("mine"))[0]) == tmp_path / "mine"


def test_export_writes_where_the_caller_is_and_says_so(
    studies: list[StoredStudy], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "from"
    remember({})  # the storage's own settings have no mark
    assert run_command_line(["export", "--storage", "s.db"]) == 0
    assert "the default, in the current folder" in capsys.readouterr().err
    assert list((tmp_path / "configs").rglob("*.json"))
    assert not folder.exists()


def test_export_of_a_storage_without_measurements_says_that_there_is_no_file(
    studies: list[StoredStudy], capsys: pytest.CaptureFixture[str]
) -> None:
    with opened("s.db") as storage, opened("new.db", create=True) as new:
        for study in studies:
            attrs = optuna.load_study(study_name=study.name, storage=storage).user_attrs
            begun = optuna.create_study(storage=new, study_name=study.name)
            for name, value in attrs.items():
                begun.set_user_attr(name, value)
    assert run_command_line(["export", "--storage", "new.db"]) == 1
    assert "nothing is measured yet" in capsys.readouterr().err


def test_resume_says_that_nothing_was_begun(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with opened(str(tmp_path / "new.db"), create=True):
        pass
    assert run_command_line(["resume", "--storage", str(tmp_path / "new.db")]) == 2
    assert "no studies yet" in capsys.readouterr().err


def test_resume_does_not_call_finished_what_it_left_out(
    studies: list[StoredStudy], capsys: pytest.CaptureFixture[str]
) -> None:
    with opened("s.db") as storage:
        for stored in studies:
            settings = {**stored.attrs.settings, "device": "replay:/somebodys.npz"}
            study = optuna.load_study(study_name=stored.name, storage=storage)
            study.set_user_attr("settings", settings)
    assert run_command_line(["resume", "--storage", "s.db"]) == 1
    said = capsys.readouterr().err
    assert said.count("was not started here names files for it") == len(studies)
    assert "everything but what is left out in sqlite:///s.db is finished" in said
