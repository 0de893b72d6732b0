from __future__ import annotations

import argparse
import subprocess
import sys

import pytest

from autotune.commands import (
    bench,
    best,
    capture_routing,
    check,
    compare,
    convert,
    dashboard,
    doctor,
    export,
    models,
    record,
    report,
    resume,
    routing_stats,
    run,
    status,
    storage,
)
from autotune.commands.registry import COMMANDS, Command, CommandModule, make_parser

MODULES: dict[str, CommandModule] = {
    "run": run,
    "resume": resume,
    "bench": bench,
    "compare": compare,
    "record": record,
    "status": status,
    "best": best,
    "export": export,
    "dashboard": dashboard,
    "report": report,
    "capture-routing": capture_routing,
    "routing-stats": routing_stats,
    "models": models,
    "check": check,
    "storage check": storage.CHECK,
    "storage backup": storage.BACKUP,
    "storage upgrade": storage.UPGRADE,
    "convert": convert,
    "doctor": doctor,
}
"""Every command's parts; mypy checks each against the protocol."""


def test_every_command_is_listed() -> None:
    assert [command.name for command in COMMANDS] == list(MODULES)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_every_command_is_there_with_its_flags(command: Command) -> None:
    assert command.load() is MODULES[command.name]
    parser = argparse.ArgumentParser()
    command.load().add_flags(parser)
    assert parser.format_help()


def test_what_is_parsed_knows_its_command() -> None:
    flags = make_parser().parse_args(["storage", "backup", "there.db", "--storage", "here.db"])
    assert (flags.command.name, str(flags.file), flags.storage) == (
        "storage backup",
        "there.db",
        "here.db",
    )
    assert not flags.json


def test_help_waits_for_nothing() -> None:
    code = (
        "import sys; from autotune.commands.registry import make_parser\n"
        "make_parser().format_help()\n"
        "print(sorted({'optuna', 'numpy', 'torch', 'sqlalchemy'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
