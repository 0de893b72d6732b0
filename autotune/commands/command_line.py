"""The whole command line as typer's: what its words say to do.

Help and completion know every command from the registry; a command's flags, and with them its
imports, come when it is called for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
import typer.main
from typer.core import TyperCommand, TyperGroup

import autotune
from autotune.commands.config_file import DEFAULT_FILE, read_config
from autotune.commands.flag_command import WithHelp, flag_command
from autotune.commands.flag_fields import flag_fields
from autotune.commands.output import ConfigFlag, Output, OutputFlags
from autotune.commands.registry import COMMANDS, GROUPS, Command
from autotune.errors import UsageError
from autotune.exit_codes import ExitCode
from autotune.nearest import did_you_mean

NAME = "autotune"
_HELP = {"--help", "-h"}


@dataclass(frozen=True, slots=True)
class Call:
    """A command with its flags, as the words of a command line say."""

    command: Command
    run: Callable[[Any, Output], int]
    found: Path | None
    """The current folder's autotune.toml, where it was read without being named."""
    flags: Any
    output: OutputFlags


def parsed(words: Sequence[str]) -> Call | int:
    """Return what the words say to do, or the exit code where that is done: help was shown. Raises
    UsageError."""
    try:
        found = _group().main(args=list(words), prog_name=NAME, standalone_mode=False)
    except typer.TyperException as error:  # flags, and no command behind them
        raise UsageError(f"{error.format_message()} See {NAME} --help") from error
    assert isinstance(found, Call | int)
    return found


class CommandGroup(WithHelp, TyperGroup):
    """Commands by name, and what a misspelt one may have meant."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Take the flags before the command. Without any words the help is shown."""
        if not args and not ctx.resilient_parsing:
            if text := self.get_help(ctx):  # empty where rich has printed it
                typer.echo(text)
            raise typer.Exit(ExitCode.USAGE)
        try:
            return super().parse_args(ctx, list(args))
        except typer.TyperException as error:
            raise UsageError(self._refusal(ctx, args)) from error

    def _refusal(self, ctx: Any, args: list[str]) -> str:
        known = {name for param in self.get_params(ctx) for name in param.opts}
        for name in (word.partition("=")[0] for word in args if word.startswith("-")):
            if name not in known:
                meant = did_you_mean(name, known) or "; a command's flags stand behind it"
                return f"{ctx.command_path} has no flag {name} before a command{meant}"
        return f"{args[-1]} needs a value"

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Find the command that is named. Raises UsageError where there is none."""
        name = args[0]
        if name not in self.commands and not ctx.resilient_parsing:
            raise UsageError(
                f"{ctx.command_path} has no command {name!r}{did_you_mean(name, self.commands)}"
            )
        return super().resolve_command(ctx, args)


class _LateCommand(TyperCommand):
    """A command that gets its flags only when it is about to parse some: they bring imports."""

    def __init__(self, command: Command, name: str) -> None:
        super().__init__(name, help=command.help, rich_help_panel=command.panel)
        self._command = command

    def make_context(
        self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any
    ) -> Any:
        """Have the command itself parse the words."""
        command, module = self._command, self._command.load()
        is_shown = not _HELP.isdisjoint(args) or extra.get("resilient_parsing")
        before = parent.find_root().params.get("config")
        file = None if is_shown else read_config(args, before)
        found = file.path if file and file.path == DEFAULT_FILE else None
        with_flags = flag_command(
            [module.Flags, OutputFlags],
            partial(Call, command, module.run, found),
            self.name or "",
            help=command.help,
            epilog=_example(command),
        )
        if file:
            extra["default_map"] = file.values(command, flag_fields(module.Flags))
        return with_flags.make_context(info_name, args, parent, **extra)


def _example(command: Command) -> str:
    return f"Example: {NAME} {command.example}"


def _show_version(is_wanted: bool) -> None:
    if is_wanted:
        typer.echo(f"{NAME} {autotune.__version__}")
        raise typer.Exit


def _before_commands(
    version: Annotated[
        bool,
        typer.Option("--version", is_eager=True, callback=_show_version, help="Show the version."),
    ] = False,
    config: ConfigFlag = None,
) -> None:
    """Take the flags that stand before a command: each has done what it does."""


def _group() -> TyperGroup:
    app = typer.Typer(
        cls=CommandGroup,
        context_settings={"help_option_names": sorted(_HELP)},
        help=str(autotune.__doc__).splitlines()[0],
        epilog=_example(COMMANDS[0]),
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
    )
    app.callback()(_before_commands)
    root = typer.main.get_command(app)
    assert isinstance(root, TyperGroup)
    for command in COMMANDS:
        group, _, action = command.name.rpartition(" ")
        if group and group not in root.commands:
            root.add_command(
                CommandGroup(
                    name=group,
                    help=GROUPS[group],
                    epilog=_example(command),
                    rich_help_panel=command.panel,
                )
            )
        parent: Any = root.commands[group] if group else root
        parent.add_command(_LateCommand(command, action))
    return root
