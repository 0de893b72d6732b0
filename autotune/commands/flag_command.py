"""From a dataclass of flags to a command of typer's, and back to the dataclass.

A class of flags is a frozen dataclass whose fields are ``Annotated`` with a typer.Option or
typer.Argument, and maybe with a kind of ``flag_kinds``. It may be composed of several: each has in
``panel`` the heading under which ``--help`` shows its own fields.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import MISSING, Field, dataclass, fields
from enum import Enum, StrEnum
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import typer
import typer.main
from typer.core import TyperCommand
from typer.models import OptionInfo, ParameterInfo

from autotune.commands.flag_kinds import (
    Beside,
    Many,
    OneOf,
    Otherwise,
    ShownDefault,
    member_of,
    number,
    whole_number,
    word_of,
)
from autotune.errors import UsageError
from autotune.nearest import did_you_mean

Flags = TypeVar("Flags", bound=Hashable)
_NUMBER = re.compile(r"-\.?\d")
_PARSERS: Mapping[Any, Callable[[Any], Any]] = {
    int: whole_number,
    float: number,
    str: str,
    Path: Path,
}
_MOST_LETTERS = 16
"""Of choices in the column of types."""
EVERY = "Every command"
_METAVARS = {int: "N", float: "X", str: "TEXT", Path: "PATH"}


@dataclass(frozen=True, slots=True)
class FlagField:
    """One field of a class of flags, taken apart."""

    name: str
    kind: Any
    """The type of one value: of a tuple its members', of ``int | None`` int."""
    info: ParameterInfo
    default: Any
    """inspect.Parameter.empty where it has none."""
    many: Many | None = None
    otherwise: str | None = None
    place: Callable[[str, Path], str] | None = None

    @property
    def parameter(self) -> inspect.Parameter:
        """The field as a parameter of the function that typer gets."""
        kind: Any = self.kind
        if self.is_tuple:
            kind = list.__class_getitem__(kind)
        default = list(self.default) or None if isinstance(self.default, tuple) else self.default
        return inspect.Parameter(
            self.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=default,
            annotation=typer_annotation(kind, self._shown_info),
        )

    @property
    def _shown_info(self) -> ParameterInfo:
        """The typer.Option with the first of its long names alone, which leaves help its room; the
        help says the others."""
        info = copy(self.info)
        long = [name for name in self.names if name.startswith("--")]
        if len(long) > 1:
            info.param_decls = [name for name in self.names[1:] if name not in long]
            info.help = f"{info.help} (also {', '.join(long[1:])})"
        return info

    @property
    def is_tuple(self) -> bool:
        return self.many is not None

    def parse(self, value: Any) -> Any:
        """Parse one value. Raises typer.BadParameter."""
        return self.info.parser(value) if self.info.parser else value

    def beside(self, value: Any, folder: Path) -> Any:
        """Return a value of which paths are taken from ``folder``."""
        if self.place and isinstance(value, str | Path):
            return type(value)(self.place(str(value), folder))
        return folder / value if isinstance(value, Path) else value

    @property
    def names(self) -> tuple[str, ...]:
        """The flag with its dashes, and its other names; none of an argument."""
        if not isinstance(self.info, OptionInfo):
            return ()
        return (str(self.info.default), *(self.info.param_decls or ()))


def typer_annotation(kind: Any, info: ParameterInfo) -> Any:
    """Return ``Annotated[kind, info]`` of values that are known only when this runs."""
    from typing import Annotated

    return Annotated[kind, info]


@cache
def flag_fields(kind: Any) -> tuple[FlagField, ...]:
    """Return the fields of a class of flags."""
    hints = get_type_hints(kind, include_extras=True)
    return tuple(_field(each, hints[each.name], _panel(kind, each.name)) for each in _ordered(kind))


def _ordered(kind: type) -> Iterator[Field[Any]]:
    """Yield the fields in the order of their classes: dataclasses begin with the last base."""
    own = {each.name: each for each in fields(kind)}
    bases = [base for base in kind.__mro__ if base is not kind]
    for each in (*bases, kind):
        for name in vars(each).get("__annotations__", {}):
            if name in own:
                yield own.pop(name)


def _panel(kind: type, name: str) -> str | None:
    owner = next(each for each in kind.__mro__ if name in vars(each).get("__annotations__", {}))
    return vars(owner).get("panel")


def _field(field: Field[Any], hint: Any, panel: str | None) -> FlagField:
    kind, *extras = get_args(hint)
    [info] = (copy(extra) for extra in extras if isinstance(extra, ParameterInfo))
    marks = {type(extra): extra for extra in extras}
    is_tuple = get_origin(kind) is tuple
    if is_tuple:
        kind = get_args(kind)[0]
    kinds = [each for each in get_args(kind) if each is not NoneType]
    if get_origin(kind) is UnionType:
        kind = kinds[0] if len(kinds) == 1 else str
    info.rich_help_panel = info.rich_help_panel or panel
    if ShownDefault in marks:
        info.show_default = marks[ShownDefault].words
    kind, info.parser = _parsed(kind, marks.get(OneOf), info.parser)
    info.metavar = info.metavar or _METAVARS.get(kind) or _choices(kind, info)
    if is_tuple and info.metavar:
        info.metavar += "..."
    return FlagField(
        field.name,
        kind,
        info,
        inspect.Parameter.empty if field.default is MISSING else field.default,
        marks.get(Many, Many()) if is_tuple else None,
        marks[Otherwise].word if Otherwise in marks else None,
        marks[Beside].place if Beside in marks else None,
    )


def _choices(kind: Any, info: ParameterInfo) -> str | None:
    """Return what help shows of the words that a flag knows: many stand in its text."""
    if not (isinstance(kind, type) and issubclass(kind, Enum)):
        return None
    words = [str(member.value) for member in kind]
    if sum(map(len, words)) <= _MOST_LETTERS:
        return "|".join(words)
    info.help = f"{info.help} (one of {', '.join(words)})"
    return "NAME"


def _parsed(kind: Any, known: OneOf | None, parser: Any) -> tuple[Any, Callable[[Any], Any] | None]:
    """Return the type that typer shows, and who reads a word: a parser of ours, whose errors say
    what came and what may have been meant."""
    if get_origin(kind) is Literal:
        known = OneOf(get_args(kind))
    if known is not None:
        return StrEnum("Words", {word: word for word in known.words}), word_of(known.words)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return kind, parser or member_of(kind)
    return kind, parser or _PARSERS.get(kind)


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
            return super().parse_args(ctx, args)
        spread = list(_spread(args, _known(self.get_params(ctx), self.flag_fields), ctx))
        try:
            left = super().parse_args(ctx, spread)
        except typer.BadParameter as error:
            raise UsageError(_words_of(error, self.flag_fields)) from error
        except typer.TyperException as error:
            raise UsageError(error.format_message()) from error
        if left:
            raise UsageError(f"{ctx.command_path} takes no {left[0]!r}")
        return left


@dataclass(frozen=True, slots=True)
class _Known:
    """A flag as the words of a command need it: what stands behind it."""

    field: str
    name: str
    """The first of its names."""
    is_bare: bool
    many: Many | None = None
    otherwise: str | None = None


def _known(params: Sequence[Any], of_class: Sequence[FlagField]) -> dict[str, _Known]:
    by_name = {each.name: each for each in of_class}
    found: dict[str, _Known] = {}
    for param in params:
        each = by_name.get(param.name)
        known = _Known(
            param.name,
            param.opts[0],
            getattr(param, "is_flag", False),
            each.many if each else None,
            each.otherwise if each else None,
        )
        if param.param_type_name == "option":
            found |= dict.fromkeys((*param.opts, *(each.names if each else ())), known)
    return found


def _spread(words: Sequence[str], known: Mapping[str, _Known], ctx: Any) -> Iterator[str]:
    """Yield the words with a flag of its own for each value. Raises UsageError for a flag that is
    not known, or has no value."""
    left = list(words)
    while left:
        word = left.pop(0)
        if word == "--":
            yield from (word, *left)
            return
        name, has_value, value = word.partition("=")
        flag = known.get(name)
        refused = known.get(f"--{name.removeprefix('--no-')}") if flag is None else None
        if refused and refused.is_bare:
            ctx.default_map = {**(ctx.default_map or {}), refused.field: False}
            continue
        if flag is None and _is_flag(word) and word[:2] not in known:
            raise UsageError(f"{ctx.command_path} has no flag {name}{did_you_mean(name, known)}")
        if flag is None or flag.is_bare:
            if has_value and flag:
                raise UsageError(f"{name} takes no value")
            yield word
            continue
        values = [value] if has_value else _behind(left, flag)
        if not values:
            raise UsageError(f"{name} needs a value")
        for each in values:
            parts = flag.many.parts(each) if flag.many else [each]
            for part in parts:
                yield from (flag.name, part)


def _behind(left: list[str], flag: _Known) -> list[str]:
    """Take the values of a flag from what is left of the words."""
    values: list[str] = []
    while left and not _is_flag(left[0]) and (flag.many or not values):
        values.append(left.pop(0))
    return values or ([] if flag.otherwise is None else [flag.otherwise])


def _is_flag(word: str) -> bool:
    return len(word) > 1 and word.startswith("-") and not _NUMBER.match(word)


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
