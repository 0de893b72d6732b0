"""Several models in one run: shared workers, studies of each, what is left out."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from small_landscape import PROBLEM, save_landscape  # type: ignore[import-not-found]

from autotune.engines import ENGINES
from autotune.errors import DeviceError, ModelError, UsageError
from autotune.report.rows import layer_heading
from autotune.report.terminal.run_display import PlainDisplay
from autotune.settings import ModelSettings, RunSettings
from autotune.spec.problem import Problem
from autotune.studies.storage.open import open_storage
from autotune.studies.study_record import StoredStudy, stored_studies
from autotune.tuning.observer import RunObserver, RunStart
from autotune.tuning.run_models import RunModels
from autotune.tuning.run_report import RunReport
from autotune.tuning.session import run
from autotune.tuning.stored_results import select, unfinished_settings

Make = Callable[..., RunSettings]
HALF = replace(PROBLEM, intermediate=PROBLEM.intermediate // 2)
WIDE = replace(PROBLEM, hidden=2 * PROBLEM.hidden)
REFUSED = 4
"""A TP size whose layer was not recorded."""


@pytest.fixture
def landscape(tmp_path: Path) -> Path:
    return save_landscape(tmp_path / "layers.npz", layers=(PROBLEM, HALF, WIDE))


@pytest.fixture
def model(tmp_path: Path) -> Callable[..., ModelSettings]:
    """Makes settings of a Mixtral of the recorded shape, or as wide as one likes."""

    def make(name: str = "small", hidden: int = PROBLEM.hidden, tp_size: int = 1) -> ModelSettings:
        config = {
            "architectures": ["MixtralForCausalLM"],
            "model_type": "mixtral",
            "num_local_experts": PROBLEM.experts,
            "num_experts_per_tok": PROBLEM.top_k,
            "hidden_size": hidden,
            "intermediate_size": PROBLEM.intermediate,
            "num_hidden_layers": 2,
            "torch_dtype": "bfloat16",
        }
        folder = tmp_path / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps(config))
        return ModelSettings(model=str(folder), tp_size=tp_size, batch_sizes=(1, 64))

    return make


Model = Callable[..., ModelSettings]


def _run(settings: RunSettings, database: str) -> RunReport:
    return run(settings, database, PlainDisplay())


def _stored(database: str) -> list[StoredStudy]:
    return stored_studies(open_storage(database, create=False))


def _problems(report: RunReport, place: int) -> set[Problem]:
    return {replace(r.problem, tokens=1) for r in report.models[place].results}


def test_models_share_a_run_and_each_has_its_results_and_files(
    settings: Make, database: str, model: Model, caplog: pytest.LogCaptureFixture
) -> None:
    models = (model(), model(tp_size=2))

    class Counts(RunObserver):
        def started(self, start: RunStart) -> None:
            self.start = start

    with caplog.at_level("INFO"):
        counts = Counts()
        both = settings(model=models[0], more_models=models[1:])
        report = run(both, database, PlainDisplay(), counts)
    assert [len(each.studies) for each in counts.start.models] == [2, 2]
    assert "batch size 64, small TP2: best" in caplog.text
    assert [each.label for each in report.models] == ["small", "small TP2"]
    assert [_problems(report, place) for place in (0, 1)] == [{PROBLEM}, {HALF}]
    assert (report.measured, report.unfinished, report.left_out) == (48, 0, {})
    names = {file.path.name.partition(",device")[0] for file in report.files}
    assert names == {"E=8,N=256", "E=8,N=128"}
    for study in _stored(database):  # each goes on by itself
        [alone] = [m for m in models if m.tp_size == 256 // study.key.problem.intermediate]
        assert study.attrs.settings == both.of_model(alone).as_json()
        assert study.attrs.model == alone.model


def test_models_that_cannot_be_tuned_do_not_stop_the_others(
    settings: Make,
    database: str,
    model: Model,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    nowhere = ModelSettings(model=str(tmp_path / "nowhere"), batch_sizes=(1, 64))
    odd = model(tp_size=3)  # it does not divide
    refused = model(tp_size=REFUSED)
    report = _run(settings(model=nowhere, more_models=(odd, refused, model())), database)
    assert list(report.left_out) == ["nowhere", "small TP3", f"small TP{REFUSED}"]
    assert "no such folder" in report.left_out["nowhere"]
    assert "does not divide" in report.left_out["small TP3"]
    assert [each.label for each in report.models] == ["small"]
    assert (report.measured, report.failed) == (24, {})
    assert caplog.text.count(" is left out: ") == 3


def test_models_whose_names_end_alike_are_told_apart(
    settings: Make, model: Model, tmp_path: Path
) -> None:
    here, there = model("a/small"), model("b/small")
    lost = [ModelSettings(model=str(tmp_path / name / "lost")) for name in "ab"]
    models = RunModels(settings(model=here, more_models=(there, *lost, model(tp_size=2))))
    wanted = [str(tmp_path / "a/small"), str(tmp_path / "b/small"), "small TP2"]
    assert [each.label for each in models.models] == wanted
    assert list(models.left_out) == [each.model for each in lost]
    assert replace(here, ep_rank=0).label != replace(here, disable_shared_experts_fusion=True).label


def test_where_no_model_can_be_tuned_the_last_ones_error_ends_the_run(
    settings: Make, database: str, model: Model, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    nowhere = ModelSettings(model=str(tmp_path / "nowhere"))
    with pytest.raises(ModelError, match="no such folder"):
        RunModels(settings(model=nowhere))
    assert not caplog.text
    with pytest.raises(DeviceError, match="recorded"):
        _run(settings(model=nowhere, more_models=(model(tp_size=REFUSED),)), database)
    assert "nowhere is left out" in caplog.text
    assert _stored(database) == []


def test_models_of_one_layer_share_their_studies(
    settings: Make, database: str, model: Model
) -> None:
    report = _run(settings(model=model(), more_models=(model("twin"),)), database)
    assert report.measured == 24
    assert len(_stored(database)) == 2
    assert report.models[0].results == report.models[1].results
    assert len(report.results) == len(report.models[0].results)
    _run(settings(model=model("third")), database)
    names = [model(name).name for name in ("small", "twin", "third")]
    for study in _stored(database):
        assert study.attrs.model_names == tuple(sorted(names))  # in whichever order they came
        assert layer_heading(study.attrs, study.key).startswith("small and third and twin bf16, ")
    for name in names:
        [one, _] = select(_stored(database), name.upper())
        assert one.attrs.model == name
        assert layer_heading(one.attrs, one.key).startswith(f"{Path(name).name} bf16, ")
    with pytest.raises(UsageError, match=f"it knows {', '.join(sorted(names))}$"):
        select(_stored(database), "other")


def test_of_two_layers_with_one_file_name_the_first_has_the_file(
    settings: Make, database: str, model: Model
) -> None:
    wide = model("wide", hidden=WIDE.hidden)
    report = _run(settings(model=model(), more_models=(wide,)), database)
    assert _problems(report, 1) == {WIDE}
    assert len(report.files) == 3
    for file in report.files:
        assert any("H=1024, top-k 2, too" in note for note in file.notes)
        if "_down" not in file.path.name:
            engine = ENGINES["vllm" if "vllm" in str(file.path) else "sglang"]
            results = [r for r in report.models[0].results if r.engine.name == engine.name]
            for result in results:
                folder = engine.env_folder(result.folder(settings().output_dir))
                found = engine.lookup(folder, result.problem, result.device, result.problem.tokens)
                assert found is not None
                assert found.config == result.config


def test_what_is_left_of_several_models_is_resumed_as_one_run(
    settings: Make, database: str, model: Model
) -> None:
    models = (model(), model(tp_size=2))
    late = settings(model=models[0], more_models=models[1:], timeout_s=0.001)
    assert _run(late, database).unfinished == 4
    [again] = unfinished_settings(_stored(database))
    assert set(again.models) == set(models)
    assert again.of_model(models[0]) == late.of_model(models[0])
    report = _run(replace(again, timeout_s=None), database)
    assert (report.unfinished, len(report.models)) == (0, 2)
    _run(settings(model=models[0], trials=5, sampler="tpe"), database)
    apart = unfinished_settings(_stored(database), trials=20)
    assert [len(each.models) for each in apart] == [1, 1]  # other samplers


def test_settings_of_several_models_survive_the_storage(settings: Make, model: Model) -> None:
    from autotune.settings import settings_from

    both = settings(model=model(), more_models=(model(tp_size=2),))
    assert settings_from(RunSettings, both.as_json()) == both
    assert "more_models" not in settings().as_json()
