"""A class of flags taken apart into its fields.

A class of flags is a frozen dataclass whose fields are ``Annotated`` with a typer.Option or
typer.Argument, and maybe with a kind of ``flag_kinds``. It may be composed of several: each has in
``panel`` the heading under which ``--help`` shows its own fields.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from copy import copy
from dataclasses import MISSING, Field, dataclass, fields
from enum import Enum, StrEnum
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

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

_PARSERS: Mapping[Any, Callable[[Any], Any]] = {
    int: whole_number,
    float: number,
    str: str,
    Path: Path,
}
_METAVARS = {int: "N", float: "X", str: "TEXT", Path: "PATH"}
_MOST_LETTERS = 16
"""Of choices in the column of types."""


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
            annotation=Annotated[kind, self._shown_info],
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
