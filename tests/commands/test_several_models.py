"""``--model A --model B:tp-size=8``: each model with flags of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from autotune.cli import run_command_line
from autotune.commands.flag_command import parse_flags
from autotune.commands.flags import TuningFlags
from autotune.commands.several_models import models_of
from autotune.errors import UsageError
from autotune.settings import ModelSettings, RunSettings


def _models(*words: str) -> list[ModelSettings]:
    return models_of(parse_flags(TuningFlags, words))


def test_flags_hold_for_all_models_but_those_with_their_own() -> None:
    one, two, three = _models(
        *("--model", "a/A", "b/B:tp=8,dtype=fp8_w8a8", "--dtype", "bf16", "--batch-size", "1"),
        *("--model", "C:ep-size=4,tp-size=4,per-channel-quant", "--tp-size", "2"),
    )
    assert [m.model for m in (one, two, three)] == ["a/A", "b/B", "C"]
    assert [(m.tp_size, m.ep_size) for m in (one, two, three)] == [(2, 1), (8, 1), (4, 4)]
    assert [m.dtype for m in (one, two, three)] == ["bf16", "fp8_w8a8", "bf16"]
    assert [m.per_channel_quant for m in (one, two, three)] == [False, False, True]
    assert {m.batch_sizes for m in (one, two, three)} == {(1,)}
    assert [m.label for m in (one, two, three)] == [
        "A TP2 bf16",
        "B TP8 fp8_w8a8",
        "C TP4 EP4 bf16 per channel",
    ]


def test_a_model_that_is_there_twice_is_tuned_once() -> None:
    assert len(_models("--model", "A", "--model", "A:tp=1", "--model", "A:tp=2")) == 2


def test_a_shape_is_the_only_one() -> None:
    [alone] = _models("--shape", "E=8,topk=2,hidden=64,intermediate=32")
    assert alone.model is None
    with pytest.raises(UsageError, match="either --model NAME or --shape"):
        _models("--shape", "E=8,topk=2,hidden=64,intermediate=32", "--model", "A")


def test_a_path_with_a_colon_is_a_path(tmp_path: Path) -> None:
    folder = tmp_path / "a:tp=2"
    folder.mkdir()
    [model] = _models("--model", str(folder))
    assert (model.model, model.tp_size) == (str(folder), 1)
    [model] = _models("--model", f"{folder}:tp=4")
    assert (model.model, model.tp_size) == (str(folder), 4)


@pytest.mark.parametrize(
    ("word", "words"),
    [
        ("A:tp8", "has no flag --tp8"),
        ("A:tp=x", "--tp-size 'x' is no whole number"),
        ("A:batch-size=1", "has no flag --batch-size"),
        ("A:", "--model A:"),
        ("A:tp=0", "--tp-size is 0"),
        (":tp=2", "either --model NAME or --shape"),
        ("~nobody-of-this-name:8", "has no flag --8"),
        (f"{'long' * 999}:8", "has no flag --8"),
    ],
)
def test_flags_that_no_model_can_have(word: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        _models("--model", "B", word)


@pytest.mark.parametrize("word", ["postgresql://u:secret@h/db", "postgresql:/u:tp=secret@h/db"])
def test_a_password_that_strayed_into_a_name_is_not_said(
    word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command_line(["run", "--model", "A", word, "--device", "estimate:h200"]) == 2
    said = "".join(capsys.readouterr())
    assert "is no flag" in said
    assert "secret" not in said


def test_a_recording_is_of_one_model(tmp_path: Path) -> None:
    one, other = (ModelSettings(model=name, topk_ids_dir=str(tmp_path)) for name in ("A", "B"))
    with pytest.raises(UsageError, match="a recording is of one model's experts"):
        RunSettings(model=one, more_models=(other,), device="replay:x")
