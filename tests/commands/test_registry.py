from __future__ import annotations

import argparse
import inspect
import subprocess
import sys

import pytest

from autotune.commands.registry import COMMANDS, Command, make_parser


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_every_command_is_there_with_its_flags(command: Command) -> None:
    assert list(inspect.signature(command.load(command.function)).parameters) == ["args", "output"]
    parser = argparse.ArgumentParser()
    if command.flags:
        command.load(command.flags)(parser)
    assert parser.format_help()


def test_what_is_parsed_knows_its_command() -> None:
    args = make_parser().parse_args(["storage", "backup", "there.db", "--storage", "here.db"])
    assert (args.command.name, str(args.file), args.storage) == (
        "storage backup",
        "there.db",
        "here.db",
    )
    assert not args.json


def test_help_waits_for_nothing() -> None:
    code = (
        "import sys; from autotune.commands.registry import make_parser\n"
        "make_parser().format_help()\n"
        "print(sorted({'optuna', 'numpy', 'torch', 'sqlalchemy'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
