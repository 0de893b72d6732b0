"""The words of one command: which of them are flags, and which stand behind one."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from autotune.commands.flag_fields import FlagField
from autotune.commands.flag_kinds import Many
from autotune.errors import UsageError
from autotune.nearest import did_you_mean

_NUMBER = re.compile(r"-\.?\d")


@dataclass(frozen=True, slots=True)
class KnownFlag:
    """A flag as the words of a command need it: what stands behind it."""

    field: str
    name: str
    """The first of its names."""
    is_bare: bool
    many: Many | None = None
    otherwise: str | None = None


def known_flags(params: Sequence[Any], of_class: Sequence[FlagField]) -> dict[str, KnownFlag]:
    """Return flag → what stands behind it, for every name of the flags of a command: ``params`` are
    typer's, and ``of_class`` those that come from a class of flags."""
    by_name = {each.name: each for each in of_class}
    found: dict[str, KnownFlag] = {}
    for param in params:
        each = by_name.get(param.name)
        known = KnownFlag(
            param.name,
            param.opts[0],
            getattr(param, "is_flag", False),
            each.many if each else None,
            each.otherwise if each else None,
        )
        if param.param_type_name == "option":
            found |= dict.fromkeys((*param.opts, *(each.names if each else ())), known)
    return found


def spread(words: Sequence[str], known: Mapping[str, KnownFlag], ctx: Any) -> Iterator[str]:
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
        refused = known.get(f"--{name[5:]}") if flag is None and name[:5] == "--no-" else None
        if refused and refused.is_bare and not has_value:
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


def _behind(left: list[str], flag: KnownFlag) -> list[str]:
    """Take the values of a flag from what is left of the words."""
    values: list[str] = []
    while left and not _is_flag(left[0]) and (flag.many or not values):
        values.append(left.pop(0))
    return values or ([] if flag.otherwise is None else [flag.otherwise])


def _is_flag(word: str) -> bool:
    return len(word) > 1 and word.startswith("-") and not _NUMBER.match(word)
