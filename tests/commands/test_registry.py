from __future__ import annotations

import subprocess
import sys
from pathlib import Path

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
from autotune.commands.command_line import Call, parsed
from autotune.commands.flag_command import flag_command
from autotune.commands.output import OutputFlags
from autotune.commands.registry import COMMANDS, Command, CommandModule

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
    assert {command.name for command in COMMANDS} == set(MODULES)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_every_command_is_there_with_its_flags(command: Command) -> None:
    assert command.load() is MODULES[command.name]
    shown = flag_command([command.load().Flags], print)
    assert {field.name for field in shown.flag_fields} == {p.name for p in shown.params}


def test_what_is_parsed_knows_its_command() -> None:
    call = parsed(["storage", "backup", "there.db", "--storage", "here.db"])
    assert isinstance(call, Call)
    assert call.command.name == "storage backup"
    assert call.flags == storage.BackupFlags(file=Path("there.db"), storage="here.db")
    assert call.output == OutputFlags()


def test_help_waits_for_nothing() -> None:
    code = (
        "import sys; from autotune.commands.command_line import parsed\n"
        "parsed(['--help'])\n"
        "print(sorted({'optuna', 'numpy', 'torch', 'sqlalchemy', 'pydantic'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
