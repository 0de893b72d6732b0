"""What ``--help`` shows, and what a shell completes."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import autotune
from autotune.cli import run_command_line
from autotune.commands.command_line import Call, parsed
from autotune.commands.flag_fields import flag_fields
from autotune.commands.registry import COMMANDS, GROUPS, Command


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
@pytest.mark.parametrize("width", ["80", "200"])
def test_help_has_every_flag_and_an_example(
    command: Command,
    width: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("COLUMNS", width)
    assert run_command_line([*command.name.split(), "--help"]) == 0
    shown = capsys.readouterr().out
    assert all(len(line) <= int(width) for line in shown.splitlines())
    for field in flag_fields(command.load().Flags):
        for name in field.names:
            assert name in shown
    assert f"Example: autotune {command.name}" in shown
    assert "--config" in shown


def test_what_the_timeout_of_record_does_not_bound_is_said(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert run_command_line(["record", "--help"]) == 0
    assert "compiling before it is not bounded" in capsys.readouterr().out


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_examples_are_what_the_command_takes(command: Command) -> None:
    call = parsed(shlex.split(command.example))
    assert isinstance(call, Call)
    assert call.command is command


def test_the_whole_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command_line(["--help"]) == 0
    shown = capsys.readouterr().out
    names = [command.name.partition(" ")[0] for command in COMMANDS]
    assert all(f" {name} " in shown for name in names)
    assert "<bool>" not in shown
    assert run_command_line(["-h"]) == 0
    assert capsys.readouterr().out == shown
    assert run_command_line([]) == 2
    assert capsys.readouterr().out.strip() == shown.strip()
    for group in GROUPS:
        assert run_command_line([group]) == 2
        assert "backup" in capsys.readouterr().out
    assert run_command_line(["--version"]) == 0
    assert capsys.readouterr().out == f"autotune {autotune.__version__}\n"


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["staus"], "autotune has no command 'staus'. Did you mean status?"),
        (["storage", "chek"], "autotune storage has no command 'chek'. Did you mean check?"),
        (["--storage", "x", "status"], "autotune has no flag --storage before a command; "),
        (["check"], "FILE... is missing"),
        (["run", "--trials", "x"], "--trials 'x' is no whole number"),
        (["run", "--config"], "--config needs a value"),
        (["--versoin"], "autotune has no flag --versoin before a command. Did you mean --version"),
        (["--config"], "--config needs a value"),
        (["check", "x"], "--engine is missing: one of sglang, vllm"),
    ],
)
def test_an_error_is_one_line(
    words: list[str], error: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command_line(words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"autotune: error: {error}")
    assert err.count("\n") == 1


def _completed(words: str, tmp_path: Path) -> list[str]:
    """What bash would be offered behind the words."""
    package = str(Path(autotune.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-m", "autotune"],
        env=os.environ
        | {
            "PYTHONPATH": package,
            "_AUTOTUNE_COMPLETE": "complete_bash",
            "COMP_WORDS": words,
            "COMP_CWORD": str(len(words.split(" ")) - 1),
        },
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    return done.stdout.split()


def test_a_shell_completes_commands_flags_and_words(tmp_path: Path) -> None:
    (tmp_path / "autotune.toml").write_text("no TOML")  # nobody waits for it here
    assert _completed("autotune st", tmp_path) == ["status", "storage"]
    assert _completed("autotune storage ", tmp_path) == ["check", "backup", "upgrade"]
    assert _completed("autotune run --samp", tmp_path) == ["--sampler"]
    assert _completed("autotune run --sampler g", tmp_path) == ["gp", "grid"]
    assert _completed("autotune run --engine v", tmp_path) == ["vllm"]
    assert _completed("autotune run --engine vllm s", tmp_path) == ["sglang"]
    assert "--engine" in _completed("autotune run --engine vllm --", tmp_path)
    assert "Qwen/Qwen3-30B-A3B" in _completed("autotune run --model Qwen/Qwen3-3", tmp_path)
    assert _completed("autotune check --engine s", tmp_path) == ["sglang"]


def test_a_shell_gets_its_script(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION", "1")
    with pytest.raises(SystemExit) as end:
        run_command_line(["--show-completion", "bash"])
    assert end.value.code == 0
    assert "_AUTOTUNE_COMPLETE=complete_bash" in capsys.readouterr().out
