"""Flags as a dataclass has them and as words say them: lists, choices, what was meant."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from autotune.commands import bench, compare, run, status
from autotune.commands.flag_command import parse_flags
from autotune.commands.flag_fields import flag_fields
from autotune.commands.flags import TuningFlags, engine_names
from autotune.commands.model_flags import SplitFlags
from autotune.errors import UsageError


@pytest.mark.parametrize(
    "words",
    [
        ("--batch-size", "1", "2", "4"),
        ("--batch-size", "1,2,4"),
        ("--batch-size", "1,", "2,4"),
        ("--batch-size=1,2", "--batch-size", "4"),
        ("--batch-size", "1", "--batch-size", "2", "--batch-size", "4", "--json"),
    ],
)
def test_a_list_has_spaces_commas_or_the_flag_again(words: tuple[str, ...]) -> None:
    assert parse_flags(TuningFlags, [w for w in words if w != "--json"]).batch_sizes == (1, 2, 4)


@pytest.mark.parametrize(
    ("words", "models"),
    [
        (["A", "B:tp-size=8,dtype=fp8_w8a8", "C"], ("A", "B:tp-size=8,dtype=fp8_w8a8", "C")),
        (["A,B:tp-size=8,dtype=fp8_w8a8,C"], ("A", "B:tp-size=8,dtype=fp8_w8a8", "C")),
        (["A:tp=2,per-channel-quant,org/B"], ("A:tp=2,per-channel-quant", "org/B")),
        (["A:tp=2,typo=8"], ("A:tp=2,typo=8",)),
        (["postgresql://u:a,b@h/db"], ("postgresql://u:a,b@h/db",)),
    ],
)
def test_models_between_commas(words: list[str], models: tuple[str, ...]) -> None:
    assert parse_flags(TuningFlags, ["--model", *words]).models == models


def test_every_list(tmp_path: Path) -> None:
    (tmp_path / "a,b.json").touch()
    flags = parse_flags(
        TuningFlags,
        [
            *("--gpus", "0,1", "--engine", "vllm", "sglang", "--routing", "uniform", "zipf:1"),
            *("--warm-start", f"{tmp_path}/a,b.json", "c.json,d.json", "--engine-source", "none"),
        ],
    )
    assert (flags.gpus, engine_names(flags)) == (("0", "1"), ("sglang", "vllm"))
    assert flags.routing == ("uniform", "zipf:1")
    assert flags.warm_starts == (tmp_path / "a,b.json", Path("c.json"), Path("d.json"))
    timed = parse_flags(bench.Flags, ["--configs", "32,64,64,8,4,3", "--config-file", "a", "b"])
    assert timed.configs == (32, 64, 64, 8, 4, 3)
    assert timed.config_files == (Path("a"), Path("b"))
    compared = parse_flags(compare.Flags, ["--config-file", "x:a.json,y:b.json"])
    assert compared.config_files == ("x:a.json", "y:b.json")


def test_a_flag_that_may_stand_alone() -> None:
    assert parse_flags(status.Flags, []).watch is None
    assert parse_flags(status.Flags, ["--watch"]).watch == 2
    assert parse_flags(status.Flags, ["--watch", "0.5"]).watch == 0.5


def test_words_and_defaults_make_the_same_flags() -> None:
    assert parse_flags(run.Flags, []) == run.Flags()
    split = parse_flags(SplitFlags, ["--tp", "4"], {"tp_size": 2, "dtype": "bf16"})
    assert (split.tp_size, split.dtype) == (4, "bf16")


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["--samplr", "gp"], "no flag --samplr. Did you mean --sampler?"),
        (["--stor", "x"], "no flag --stor. Did you mean --storage?"),
        (["--sampler", "surogate"], "--sampler 'surogate' is none of .* Did you mean surrogate?"),
        (["--engine", "sglang,vlm"], "--engine 'vlm' is none of .* Did you mean vllm?"),
        (["--dtype", "fp8"], "--dtype 'fp8' is none of .* Did you mean fp8_w8a8?"),
        (["--robust", "wrst"], "--robust 'wrst' is none of mean, worst. Did you mean worst?"),
        (["--l2", "hot"], "--l2 'hot' is none of cold, warm$"),
        (["--trials", "x"], "--trials 'x' is no whole number"),
        (["--timeout", "x"], "--timeout 'x' is no number"),
        (["--trials"], "--trials needs a value"),
        (["--storage", "--trials", "3"], "--storage needs a value"),
        (["--per-channel-quant=1"], "--per-channel-quant takes no value"),
        (["word"], "takes no 'word'"),
        (["json"], "takes no 'json'"),
        (["dry-run"], "takes no 'dry-run'"),
        (["--no-dry-run=1"], "no flag --no-dry-run"),
        (["-x"], "no flag -x"),
    ],
)
def test_what_cannot_be(words: list[str], error: str) -> None:
    with pytest.raises(UsageError, match=error):
        parse_flags(run.Flags, words)


@pytest.mark.parametrize("kind", [run.Flags, bench.Flags, compare.Flags])
def test_no_flag_is_there_twice(kind: Any) -> None:
    names = [name for field in flag_fields(kind) for name in field.names]
    assert len(names) == len(set(names))
