"""The whole command line as typer's: what its words say to do.

Help and completion know every command from the registry; a command's flags, and with them its
imports, come when it is called for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

import typer
import typer.main
from typer.core import TyperCommand, TyperGroup

import autotune
from autotune.commands.flag_command import flag_command
from autotune.commands.flag_kinds import nearest
from autotune.commands.output import Output, OutputFlags
from autotune.commands.registry import COMMANDS, GROUPS, Command
from autotune.errors import UsageError
from autotune.exit_codes import ExitCode

NAME = "autotune"


@dataclass(frozen=True, slots=True)
class Call:
    """A command with its flags, as the words of a command line say."""

    command: Command
    run: Callable[[Any, Output], int]
    flags: Any
    output: OutputFlags


def parsed(words: Sequence[str]) -> Call | int:
    """Return what the words say to do, or the exit code where that is done: help was shown. Raises
    UsageError."""
    found = _group().main(args=list(words), prog_name=NAME, standalone_mode=False)
    assert isinstance(found, Call | int)
    return found


class CommandGroup(TyperGroup):
    """Commands by name, and what a misspelt one may have meant."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Take the flags before the command. Without any words the help is shown."""
        if not args and not ctx.resilient_parsing:
            typer.echo(ctx.get_help())
            raise typer.Exit(ExitCode.USAGE)
        try:
            return super().parse_args(ctx, args)
        except typer.TyperException as error:
            word = next(word for word in args if word.startswith("-"))
            raise UsageError(
                f"{ctx.command_path} has no flag {word} before a command; a command's flags "
                "stand behind it"
            ) from error

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Find the command that is named. Raises UsageError where there is none."""
        name = args[0]
        if name not in self.commands and not ctx.resilient_parsing:
            raise UsageError(
                f"{ctx.command_path} has no command {name!r}{nearest(name, self.commands)}"
            )
        return super().resolve_command(ctx, args)


class _LateCommand(TyperCommand):
    """A command that gets its flags only when it is about to parse some: they bring imports."""

    def __init__(self, command: Command, name: str) -> None:
        super().__init__(name, help=command.help)
        self._command = command

    def make_context(
        self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any
    ) -> Any:
        """Have the command itself parse the words."""
        module = self._command.load()
        command = flag_command(
            [module.Flags, OutputFlags],
            partial(Call, self._command, module.run),
            self.name or "",
            help=self._command.help,
        )
        return command.make_context(info_name, args, parent, **extra)


def _show_version(is_wanted: bool) -> None:
    if is_wanted:
        typer.echo(f"{NAME} {autotune.__version__}")
        raise typer.Exit


def _before_commands(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_show_version, help="(show it)")
    ] = False,
) -> None:
    """Take the flags that stand before a command: each has done what it does."""


def _group() -> TyperGroup:
    app = typer.Typer(
        cls=CommandGroup,
        help=str(autotune.__doc__).splitlines()[0],
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
    )
    app.callback()(_before_commands)
    root = typer.main.get_command(app)
    assert isinstance(root, TyperGroup)
    for name, words in GROUPS.items():
        root.add_command(CommandGroup(name=name, help=words))
    for command in COMMANDS:
        group, _, action = command.name.rpartition(" ")
        parent: Any = root.commands[group] if group else root
        parent.add_command(_LateCommand(command, action))
    return root
