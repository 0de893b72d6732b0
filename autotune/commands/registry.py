"""Every command with its help in a line; its module has its name.

A module is imported when its command is called for: ``status`` does not wait for what ``run``
needs.
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol, cast

import autotune
from autotune.commands.output import Output, add_output_flags
from autotune.shown import shown


class CommandModule(Protocol):
    """The parts of a command: its module has them, or of a group's action the ``Action``."""

    def add_flags(self, parser: argparse.ArgumentParser, /) -> None:
        """Add the command's own flags."""

    def run(self, flags: argparse.Namespace, output: Output, /) -> int:
        """Do the work; return the exit code."""


@dataclass(frozen=True, slots=True)
class Action:
    """One of a group's commands, which share the group's module. Implements CommandModule."""

    add_flags: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace, Output], int]


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


class _LateParser(argparse.ArgumentParser):
    """A parser that gets its flags only when it is about to parse some: they bring imports."""

    fill: Callable[[argparse.ArgumentParser], None] | None = None

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[argparse.Namespace, list[str]]:
        if self.fill is not None:
            fill, self.fill = self.fill, None
            fill(self)
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        super().error(shown(message))


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of every command: ``command`` of what it parses is the ``Command``."""
    parser = _LateParser(prog="autotune", description=str(autotune.__doc__).splitlines()[0])
    parser.add_argument("--version", action="version", version=f"autotune {autotune.__version__}")
    commands = parser.add_subparsers(
        title="commands", required=True, metavar="COMMAND", parser_class=_LateParser
    )
    groups: dict[str, argparse._SubParsersAction[_LateParser]] = {}
    for command in COMMANDS:
        group, _, action = command.name.rpartition(" ")
        if group and group not in groups:
            words = GROUPS[group]
            of_group = commands.add_parser(group, help=words, description=words)
            groups[group] = of_group.add_subparsers(
                title="actions", required=True, metavar="ACTION", parser_class=_LateParser
            )
        _add(groups[group] if group else commands, action, command)
    return parser


def _add(parent: argparse._SubParsersAction[_LateParser], name: str, command: Command) -> None:
    def fill(parser: argparse.ArgumentParser) -> None:
        parser.set_defaults(command=command)
        add_output_flags(parser)
        command.load().add_flags(parser)

    parent.add_parser(name, help=command.help, description=command.help).fill = fill
