"""Every command with its help in a line; its module has its name.

A module is imported when its command is called for: ``status`` does not wait for what ``run``
needs.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, cast

from autotune.commands.output import Output


class CommandModule(Protocol):
    """The parts of a command: its module has them, or of a group's action the ``Action``."""

    @property
    def Flags(self) -> type[Any]:  # noqa: N802  a class
        """A frozen dataclass; ``flag_command`` says what its fields are."""

    def run(self, flags: Any, output: Output, /) -> int:
        """Do the work; return the exit code."""


@dataclass(frozen=True, slots=True)
class Action:
    """One of a group's commands, which share the group's module. Implements CommandModule."""

    Flags: type[Any]
    run: Callable[[Any, Output], int]


@dataclass(frozen=True, slots=True)
class Command:
    """One command, or an action of a group of them (a name of two words)."""

    name: str
    help: str

    def load(self) -> CommandModule:
        """Import the command's module; return what has its parts: the module, or of the action of a
        group, such as ``storage check``, ``CHECK`` in ``storage.py``."""
        module, _, action = self.name.replace("-", "_").partition(" ")
        found = importlib.import_module(f"autotune.commands.{module}")
        return cast(CommandModule, getattr(found, action.upper()) if action else found)


COMMANDS = (
    Command("run", "tune; run again, it resumes"),
    Command("resume", "go on with everything unfinished"),
    Command("bench", "time given configs, without tuning"),
    Command("compare", "kernels side by side: ours, SGLang's, vLLM's, PyTorch's; plots and data"),
    Command("record", "measure a whole space into one file"),
    Command("status", "how far everything is"),
    Command("best", "the winners so far"),
    Command("export", "write the engine files again from the storage"),
    Command("dashboard", "optuna-dashboard on the storage, on loopback"),
    Command("report", "one HTML page with plots, and PNGs"),
    Command("capture-routing", "record which experts a model chooses"),
    Command("routing-stats", "load and padding of a recorded routing"),
    Command("models", "the built-in catalogue with its shapes"),
    Command("check", "is an engine file legal, is it found"),
    Command("storage check", "version, integrity, what is in it"),
    Command("storage backup", "copy it, also while a run goes on"),
    Command("storage upgrade", "an older Optuna's, after a backup"),
    Command("convert", "an engine's file made legal for another, with every change listed"),
    Command("doctor", "what this machine has"),
)
GROUPS = {"storage": "is the storage sound; copy it, upgrade it"}
"""Help in a line for each group of commands."""
