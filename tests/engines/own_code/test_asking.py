"""Our names held against those of an engine's own code: fakes of it, and both wheels."""

from __future__ import annotations

import logging
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from autotune.engines import ENGINES
from autotune.engines.own_code.asking import NAMED_DEVICE, OwnCode, own_code_of, with_own_names
from autotune.engines.own_code.question import Question, RefusalError
from autotune.errors import NotServedError, UsageError
from autotune.models.load import load_config, load_shape
from autotune.models.problems import Parallelism, scales_of

SGLANG, VLLM = ENGINES["sglang"], ENGINES["vllm"]
TP8 = Parallelism(tp_size=8)
V3 = "deepseek-ai/DeepSeek-V3"
SHAPE = load_shape(V3)
PROBLEM = VLLM.serves(SHAPE, None, TP8, tokens=1, routing="uniform")
OURS = VLLM.file_name(PROBLEM, NAMED_DEVICE)
QUESTION = Question.of(
    load_config(V3), scales_of(SHAPE, None, False), TP8, device_name=NAMED_DEVICE.name
)


@dataclass(frozen=True)
class _Code:
    """Code that answers the same to every question."""

    answer: str | Exception

    def file_name(self, question: Question) -> str:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer.replace(".json", "_down.json" if question.down else ".json")


def _own(answer: str | Exception) -> OwnCode:
    return OwnCode("9.9", _Code(answer))


def test_an_engine_that_agrees_keeps_our_names(caplog: pytest.LogCaptureFixture) -> None:
    asked = with_own_names(VLLM, _own(OURS), QUESTION, PROBLEM)
    assert (asked.own_names, asked.own_code) == ((), "9.9")
    assert not caplog.records
    assert not VLLM.own_code


def test_another_spelling_is_taken_for_every_device(caplog: pytest.LogCaptureFixture) -> None:
    theirs = OURS.replace("dtype=fp8_w8a8", "dtype=fp8")
    named = with_own_names(VLLM, _own(theirs), QUESTION, PROBLEM)
    b200 = replace(NAMED_DEVICE, name="NVIDIA B200")
    assert named.own_code == "9.9"
    assert named.file_name(PROBLEM, NAMED_DEVICE) == theirs
    assert named.file_name(PROBLEM, b200) == theirs.replace("NVIDIA_H200", "NVIDIA_B200")
    assert VLLM.file_name(PROBLEM, NAMED_DEVICE) == OURS
    assert theirs in caplog.text
    assert OURS in caplog.text


def test_a_down_file_gets_its_own_spelling() -> None:
    problem = SGLANG.serves(SHAPE, None, TP8, tokens=1, routing="uniform")
    theirs = SGLANG.file_name(problem, NAMED_DEVICE).replace("[128, 128]", "128x128")
    named = with_own_names(SGLANG, _own(theirs), QUESTION, problem)
    down = theirs.replace(".json", "_down.json")
    assert named.file_name(problem, NAMED_DEVICE, down=True) == down


@pytest.mark.parametrize(
    ("ours", "theirs"), [("E=256", "E=257"), ("N=256", "N=128"), ("[128,128]", "[64,64]")]
)
def test_another_problem_stops_the_engine(ours: str, theirs: str) -> None:
    other = OURS.replace(ours, theirs)
    assert other != OURS
    with pytest.raises(NotServedError, match="would never open") as error:
        with_own_names(VLLM, _own(other), QUESTION, PROBLEM)
    assert other in str(error.value)
    assert OURS in str(error.value)


def test_a_refusal_of_its_code_stops_the_engine() -> None:
    with pytest.raises(NotServedError, match="N cut in two"):
        with_own_names(VLLM, _own(RefusalError("N cut in two")), QUESTION, PROBLEM)


def test_code_that_cannot_be_asked_costs_one_line(caplog: pytest.LogCaptureFixture) -> None:
    moved = _own(TypeError("unexpected keyword argument 'M'"))
    with caplog.at_level(logging.WARNING):
        assert with_own_names(VLLM, moved, QUESTION, PROBLEM) is VLLM
        assert with_own_names(VLLM, moved, QUESTION, PROBLEM) is VLLM
    (record,) = caplog.records
    assert record.getMessage() == (
        "vLLM 9.9's own code could not be asked (unexpected keyword argument 'M'): file names are "
        f"those of {VLLM.version}"
    )


def _wheel(folder: Path, text: str) -> Path:
    path = folder / "vllm-0.34.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("vllm/model_executor/models/registry.py", text)
        archive.writestr("vllm-0.34.0.dist-info/METADATA", "")
    return path


def test_wheels_are_read_as_they_are(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """This one has moved its tables: nothing but a line comes of it."""
    wheel = _wheel(tmp_path, "MODELS = {}\n")
    for source in (wheel, tmp_path):
        own = own_code_of(VLLM, (source,))
        assert own is not None
        assert own.version == "0.34.0"
        assert own.words == f"0.34.0, in {wheel}"
        assert with_own_names(VLLM, own, QUESTION, PROBLEM) is VLLM
    assert "vLLM 0.34.0's own code could not be asked" in caplog.text
    assert own_code_of(SGLANG, (wheel,)) is None


def test_nobody_is_asked_where_none_is_wanted(tmp_path: Path) -> None:
    _wheel(tmp_path, "")
    assert own_code_of(VLLM, (Path("none"),)) is None
    with pytest.raises(UsageError, match="no such file"):
        own_code_of(VLLM, (tmp_path / "missing",))
    (tmp_path / "vllm-1.whl").write_text("no archive")
    with pytest.raises(UsageError, match="is no wheel"):
        own_code_of(VLLM, (tmp_path / "vllm-1.whl",))


def test_an_installed_package_is_found_without_being_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "vllm").mkdir()
    (tmp_path / "vllm" / "__init__.py").write_text("raise RuntimeError('imported')\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "vllm", raising=False)
    own = own_code_of(VLLM, ())
    assert own is not None
    assert own.version == "of an unknown version"
    assert "vllm" not in sys.modules


@pytest.mark.parametrize("name", ["vllm", "sglang"])
def test_wheels_agree_about_deepseek(engine_package: Callable[[str], Path], name: str) -> None:
    engine = ENGINES[name]
    own = own_code_of(engine, (engine_package(name),))
    assert own is not None
    for parallel in (Parallelism(), TP8, Parallelism(8, 8)):
        problem = engine.serves(SHAPE, None, parallel, tokens=1, routing="uniform")
        question = Question.of(
            QUESTION.config,
            scales_of(SHAPE, None, False),
            parallel,
            device_name=NAMED_DEVICE.name,
        )
        assert own.code.file_name(question) == engine.file_name(problem, NAMED_DEVICE)
