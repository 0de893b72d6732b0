"""``autotune.toml``: what it may say, who wins, and how an error in it reads."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from autotune.cli import run_command_line
from autotune.commands.command_line import Call, parsed
from autotune.errors import UsageError

_MANUAL = Path(__file__).parents[2] / "docs" / "configuration.md"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AUTOTUNE_STORAGE", raising=False)
    return tmp_path


def _call(*words: str) -> Call:
    call = parsed(words)
    assert isinstance(call, Call)
    return call


def _flags(*words: str) -> Any:
    return _call(*words).flags


def test_the_manual_s_example(folder: Path) -> None:
    [example] = re.findall(r"```toml\n(.*?)```", _MANUAL.read_text(encoding="utf-8"), re.DOTALL)
    (folder / "autotune.toml").write_text(example)
    flags = _flags("run")
    assert flags.models == (
        "Qwen/Qwen3-30B-A3B",
        "mistralai/Mixtral-8x7B-v0.1:tp-size=4,dtype=fp8_w8a8",
    )
    assert (flags.tp_size, flags.batch_sizes, flags.trials) == (2, (1, 16, 64), 30)
    assert flags.device == "estimate:NVIDIA_H200"
    assert _flags("status").storage == "journal:tuning.journal"
    assert _call("status").output.quiet
    assert not _call("storage", "backup").output.quiet
    assert run_command_line(["run", "--dry-run"]) == 0


def test_the_command_line_wins(folder: Path) -> None:
    (folder / "autotune.toml").write_text(
        'tp-size = 2\nquiet = true\n[run]\ntp = 4\nbatch-size = "1,2"\nper-channel-quant = true\n'
    )
    assert (_flags("bench").tp_size, _flags("run").tp_size) == (2, 4)
    flags = _flags("run", "--tp-size", "8", "--batch-size", "64", "--no-per-channel-quant")
    assert (flags.tp_size, flags.batch_sizes, flags.per_channel_quant) == (8, (64,), False)
    assert _flags("run").batch_sizes == (1, 2)
    assert not _call("status", "--no-quiet").output.quiet
    assert _flags("run", "--config", "none").tp_size == 1


def test_the_environment_wins_over_the_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "autotune.toml").write_text('storage = "a.db"\n')
    monkeypatch.setenv("AUTOTUNE_STORAGE", "b.db")
    assert _flags("status").storage == "b.db"


@pytest.mark.parametrize(
    "words", [("--config", "there/x.toml", "run"), ("run", "--config=there/x.toml")]
)
def test_paths_are_relative_to_the_file(folder: Path, words: tuple[str, ...]) -> None:
    (folder / "there" / "small").mkdir(parents=True)
    (folder / "there" / "a.npz").touch()
    (folder / "there" / "x.toml").write_text(
        'storage = "journal:x.journal"\noutput-dir = "out"\nwarm-start = ["w.json", "/w.json"]\n'
        'device = "replay:a.npz"\nmodel = ["./small:tp-size=2", "Qwen/Qwen3-30B-A3B"]\n'
        'engine-source = "none"\n'
    )
    flags = _flags(*words)
    assert flags.storage == "journal:there/x.journal"
    assert flags.output_dir == Path("there/out")
    assert flags.warm_starts == (Path("there/w.json"), Path("/w.json"))
    assert flags.device == "replay:there/a.npz"
    assert flags.models == ("there/small:tp-size=2", "Qwen/Qwen3-30B-A3B")
    assert flags.engine_sources == (Path("none"),)


def test_what_is_read_is_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "autotune.toml").write_text("")
    run_command_line(["models"])
    assert f"flags from {folder / 'autotune.toml'}\n" in capsys.readouterr().err
    run_command_line(["models", "--quiet"])
    run_command_line(["models", "--config", "autotune.toml", "--quiet"])
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("tp-sizee = 2", "tp-sizee is no flag of any command. Did you mean tp-size?"),
        ("[run]\nwatch = 2", r"\[run\] watch is no flag of it"),
        ("[runn]\ntp-size = 2", r"\[runn\] is no command. Did you mean run?"),
        ("[storage.check]\nquiet = true", r"\[storage\] is no command. Did you mean storage check"),
        ('tp-size = "two"', "tp-size is 'two'; it is a whole number"),
        ("tp-size = true", "tp-size is True; it is a whole number"),
        ("[run]\ntimeout = []", r"\[run\] timeout is a list; it takes one value$"),
        ('storage = ["a", "b"]', "storage is a list; .* A table such as"),
        ("json = 1", "json is 1; it is true or false"),
        ("dry-run = 'yes'", "dry-run is 'yes'; it is true or false"),
        ("tp = 1\ntp-size = 2", "tp-size is there twice"),
        ("[run]\nsampler = 'gpp'", r"\[run\] sampler is 'gpp' is none of .* Did you mean gp?"),
        ("batch-size = ['x']", "batch-size is 'x' is no whole number"),
        ("batch-size = [[1]]", r"batch-size is \[1\]; it is a string"),
        ("a = ", "is no TOML: Invalid value"),
        ("config = 'x'", "config is no flag of any command"),
    ],
)
def test_an_error_names_file_and_key(folder: Path, text: str, error: str) -> None:
    (folder / "autotune.toml").write_text(text)
    with pytest.raises(UsageError, match=rf"^autotune.toml:? .*{error}"):
        parsed(["run"])


def test_a_file_that_cannot_be_read(folder: Path) -> None:
    (folder / "bytes.toml").write_bytes(b"\xff")
    with pytest.raises(UsageError, match=r"--config nowhere.toml cannot be read: No such file"):
        parsed(["run", "--config", "nowhere.toml"])
    with pytest.raises(UsageError, match=r"bytes.toml is no TOML"):
        parsed(["run", "--config", "bytes.toml"])
    (folder / "nested.toml").write_text("a = " + "[" * 100_000)
    with pytest.raises(UsageError, match=r"nested.toml is no TOML"):
        parsed(["run", "--config", "nested.toml"])
    (folder / "autotune.toml").mkdir()
    assert _flags("run").tp_size == 1
    (folder / "autotune.toml").rmdir()
    (folder / "autotune.toml").symlink_to("nowhere.toml")
    with pytest.raises(UsageError, match=r"autotune.toml cannot be read: No such file"):
        parsed(["run"])


@pytest.mark.parametrize(
    ("text", "words", "is_json"),
    [
        ("json = true", ["status", "--foo"], True),
        ("json = true", ["statu"], True),
        ("json = true", ["status", "--foo", "--no-json"], False),
        ("json = true\n[status]\njson = false", ["status", "--foo"], False),
        ("['storage check']\njson = true", ["storage", "check", "--foo"], True),
        ("['storage check']\njson = true", ["status", "--foo"], False),
        ("json = true\nnothing = 1", ["status"], True),
        ("json = ", ["status"], False),
    ],
)
def test_the_file_asks_for_errors_as_json(
    folder: Path, capsys: pytest.CaptureFixture[str], text: str, words: list[str], is_json: bool
) -> None:
    (folder / "autotune.toml").write_text(text)
    assert run_command_line(words) == 2
    assert capsys.readouterr().out.startswith('{"schema": "autotune/error/1"') == is_json


def test_an_error_shows_no_password(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "autotune.toml").write_text('tp-size = "postgresql://u:opensesame@h/db"')
    assert run_command_line(["run"]) == 2
    assert "opensesame" not in capsys.readouterr().err
    (folder / "autotune.toml").write_text('storage = "postgresql://u:opensesame@h/db"')
    assert run_command_line(["status", "--help"]) == 0
    assert "opensesame" not in "".join(capsys.readouterr())
