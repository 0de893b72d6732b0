"""From classes of flags (``flag_fields``) to a command of typer's, and back to their instances."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cache
from typing import Any, TypeVar

import typer
import typer.main
from typer.core import TyperCommand

from autotune.commands.flag_fields import FlagField, flag_fields
from autotune.commands.flag_words import known_flags, spread
from autotune.errors import UsageError

EVERY = "Every command"
"""The heading of the flags that every command has."""
Flags = TypeVar("Flags", bound=Hashable)


@dataclass(frozen=True, slots=True)
class _Reader:
    """Reads a flag's words by its parser. typer's own would have pydantic wrap the same parser,
    which is 0.1 s of every command (of 0.5 s of ``status``)."""

    parser: Callable[[Any], Any]

    def itself(self) -> _Reader:
        """Return this: in place of a parameter's ``get_runtime_param``."""
        return self

    def coerce(self, value: Any, *, param: Any, ctx: Any) -> Any:
        """Return the value of a flag, () or None where it is not given."""
        del ctx
        is_many = param.multiple or param.nargs == -1
        if value is None:
            return () if is_many else None
        return list(map(self.parser, value)) if is_many else self.parser(value)


def _as_it_is(value: Any) -> Any:
    return value


class WithHelp:
    """Mixed into commands and groups of typer's: what ``--help`` of all is like, and who reads the
    words behind a flag."""

    params: list[Any]
    flag_fields: tuple[FlagField, ...] = ()

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the parameters; those that are on or off show no type."""
        params: list[Any] = super().get_params(ctx)  # type: ignore[misc]
        parsers = {each.name: each.parse for each in self.flag_fields}
        for param in params:
            reader = _Reader(parsers.get(param.name, _as_it_is))
            param.get_runtime_param = reader.itself
            if getattr(param, "is_flag", False):
                param.metavar = ""
        return params

    def get_help_option(self, ctx: Any) -> Any:
        """Return ``--help``, among the flags of every command."""
        option = super().get_help_option(ctx)  # type: ignore[misc]
        if option is not None and any(_panel_of(each) == EVERY for each in self.params):
            option.rich_help_panel = EVERY
        return option


def _panel_of(param: Any) -> Any:
    return getattr(param, "rich_help_panel", None)


class FlagCommand(WithHelp, TyperCommand):
    """A command of typer's that spreads the words behind a flag which takes many."""

    allow_extra_args = True  # refused here

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the words of this command. Raises UsageError."""
        if ctx.resilient_parsing:
            ctx.obj = list(args)
            return super().parse_args(ctx, args)
        words = list(spread(args, known_flags(self.get_params(ctx), self.flag_fields), ctx))
        try:
            left = super().parse_args(ctx, words)
        except typer.BadParameter as error:
            raise UsageError(_words_of(error, self.flag_fields)) from error
        except typer.TyperException as error:
            raise UsageError(error.format_message()) from error
        if left:
            raise UsageError(f"{ctx.command_path} takes no {left[0]!r}")
        return left

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
        """Complete also the second and later words behind a flag that takes many."""
        flag = next((word for word in reversed(ctx.obj or ()) if word.startswith("-")), None)
        many = (param for param in self.params if flag in param.opts and param.multiple)
        param = None if incomplete.startswith("-") else next(many, None)
        complete = super().shell_complete if param is None else param.shell_complete
        return list(complete(ctx, incomplete))


def _words_of(error: typer.BadParameter, flags: Sequence[FlagField]) -> str:
    """Return what is wrong with a value in one line; where nothing is said of it, there is none."""
    field = next((each for each in flags if error.param and each.name == error.param.name), None)
    if field is None:
        return error.format_message()
    name = field.names[0] if field.names else field.info.metavar
    if error.message:
        return f"{name} {error.message}"
    is_choice = isinstance(field.kind, type) and issubclass(field.kind, Enum)
    return f"{name} is missing" + (f": one of {', '.join(field.kind)}" if is_choice else "")


def flag_command(
    kinds: Sequence[type], then: Callable[..., Any], name: str = "flags", **words: Any
) -> FlagCommand:
    """Return a command with the flags of the classes, which calls ``then`` with one of each;
    ``words`` are typer's, for its help."""
    found = {kind: flag_fields(kind) for kind in kinds}

    def call(**values: Any) -> Any:
        return then(*(_made(kind, values) for kind in kinds))

    parameters = [each.parameter for of_kind in found.values() for each in of_kind]
    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="rich")
    app.command(name, cls=FlagCommand, **words)(call)
    command = typer.main.get_command(app)
    assert isinstance(command, FlagCommand)
    command.flag_fields = tuple(each for of_kind in found.values() for each in of_kind)
    return command


def _made(kind: type[Flags], values: Mapping[str, Any]) -> Flags:
    def value(each: FlagField) -> Any:
        found = values[each.name]
        return tuple(found or ()) if each.is_tuple else found

    return kind(**{each.name: value(each) for each in flag_fields(kind)})


@cache
def _only_flags(kind: type) -> FlagCommand:
    return flag_command([kind], lambda flags: flags)


def parse_flags(
    kind: type[Flags], words: Sequence[str], defaults: Mapping[str, Any] | None = None
) -> Flags:
    """Return the flags of a class as ``words`` say, with ``defaults`` (field → value) in place of
    its own. Raises UsageError."""
    command = _only_flags(kind)
    with command.make_context("a model", list(words), default_map=dict(defaults or {})) as context:
        flags = command.invoke(context)
    assert isinstance(flags, kind)
    return flags
