"""Engines that serve a model, where their own code is at hand."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from autotune.engines import Engine
from autotune.engines.own_code import asking
from autotune.engines.own_code.asking import NAMED_DEVICE, OwnCode
from autotune.engines.own_code.question import Question
from autotune.errors import NotServedError
from autotune.models.load import load_config, load_shape
from autotune.settings import ModelSettings
from autotune.tuning import serving, stored_results
from autotune.tuning.jobs import jobs_of

MIXTRAL = ModelSettings(model="mistralai/Mixtral-8x7B-v0.1", tp_size=2, batch_sizes=(1, 64))
SHAPE = load_shape("mistralai/Mixtral-8x7B-v0.1")
NEW = {"architectures": ["NewMoeForCausalLM"]}
OURS = "E=8,N=7168,device_name=NVIDIA_H200.json"


@dataclass(frozen=True)
class _Code:
    name: str

    def file_name(self, question: Question) -> str:
        assert (question.tp_size, question.ep_size) == (2, 1)
        assert question.architecture == "MixtralForCausalLM"
        return self.name


@pytest.fixture
def at_hand(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """Names that engines' code makes, by engine; those without one are not at hand."""
    names: dict[str, str] = {}

    def own_code_of(engine: Engine, sources: Sequence[Path]) -> OwnCode | None:
        return OwnCode("9.9", _Code(names[engine.name])) if engine.name in names else None

    for module in (serving, stored_results):
        monkeypatch.setattr(module, "own_code_of", own_code_of)
    stored_results.engine_now.cache_clear()
    yield names
    stored_results.engine_now.cache_clear()


def _engines(settings: ModelSettings = MIXTRAL) -> Mapping[str, Engine]:
    jobs = jobs_of(SHAPE, settings, ("sglang", "vllm"))
    return {engine.name: engine for job in jobs for engine in job.engines}


def test_an_engine_with_another_problem_is_left_out_and_the_other_goes_on(
    at_hand: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    at_hand |= {"sglang": OURS, "vllm": OURS.replace("E=8", "E=9")}
    assert list(_engines()) == ["sglang"]
    assert "no files for vLLM: vLLM 9.9 looks for E=9,N=7168" in caplog.text


def test_all_engines_with_another_problem_end_it(at_hand: dict[str, str]) -> None:
    at_hand |= {name: OURS.replace("N=7168", "N=14336") for name in ("sglang", "vllm")}
    with pytest.raises(NotServedError, match="N=14336"):
        _engines()


def test_a_name_of_its_own_is_what_jobs_write_under(at_hand: dict[str, str]) -> None:
    at_hand["vllm"] = OURS.replace(".json", ",top_k=2.json")
    engines = _engines()
    (job, _) = jobs_of(SHAPE, MIXTRAL, ("vllm",))
    path = engines["vllm"].path(Path("out"), job.problem, NAMED_DEVICE)
    assert path == Path("out/vllm") / at_hand["vllm"]
    assert engines["sglang"].file_name(job.problem, NAMED_DEVICE) == OURS


@pytest.mark.parametrize("source", ["installed", "unpacked", "wheel"])
def test_an_engine_at_hand_with_a_class_of_its_own_is_asked(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    source: str,
) -> None:
    asking._warn_once.cache_clear()
    registry = tmp_path / "vllm" / "model_executor" / "models" / "registry.py"
    registry.parent.mkdir(parents=True)
    registry.write_text('_TEXT_GENERATION_MODELS = {"NewMoeForCausalLM": ()}\n')
    (tmp_path / "vllm" / "__init__.py").touch()
    with zipfile.ZipFile(tmp_path / "vllm-9.9-py3-none-any.whl", "w") as wheel:
        wheel.write(registry, registry.relative_to(tmp_path))
    model = tmp_path / "config.json"
    model.write_text(json.dumps(load_config(str(MIXTRAL.model)) | NEW))
    wheels = {"unpacked": (tmp_path,), "wheel": tuple(tmp_path.glob("*.whl"))}
    settings = replace(MIXTRAL, model=str(model), engine_sources=wheels.get(source, ()))
    if source == "installed":
        with pytest.raises(NotServedError, match="has no class NewMoeForCausalLM"):
            jobs_of(load_shape(str(model)), settings, ("vllm",))
        monkeypatch.syspath_prepend(tmp_path)
    jobs = jobs_of(load_shape(str(model)), settings, ("vllm",))
    assert [job.problem.tokens for job in jobs] == [1, 64]
    assert "own code could not be asked" in caplog.text


def test_a_shape_without_a_config_is_asked_of_nobody(at_hand: dict[str, str]) -> None:
    at_hand["vllm"] = "E=1,N=1,device_name=NVIDIA_H200.json"
    text = "E=8,topk=2,hidden=4096,intermediate=14336"
    assert len(_engines(ModelSettings(shape=text, tp_size=2, batch_sizes=(1,)))) == 2


def test_an_export_takes_the_name_of_today_and_keeps_what_was_measured(
    at_hand: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    at_hand |= {"sglang": OURS.replace("E=8", "E=9"), "vllm": OURS.replace(".json", ",v2.json")}
    (job, _) = jobs_of(SHAPE, MIXTRAL, ("vllm",))
    names = {
        name: stored_results.engine_now(MIXTRAL, name).file_name(job.problem, NAMED_DEVICE)
        for name in ("sglang", "vllm")
    }
    assert names == {"sglang": OURS, "vllm": at_hand["vllm"]}
    assert "a file of SGLang has the name by our rules: SGLang 9.9 looks for E=9" in caplog.text
