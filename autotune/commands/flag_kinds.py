"""What a field of ``Flags`` may say besides its typer.Option: that it takes many words, that it may
stand alone, which words it knows."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import typer

from autotune.nearest import did_you_mean


@dataclass(frozen=True, slots=True)
class OneOf:
    """The words that a flag knows; its field is a ``str``."""

    words: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Otherwise:
    """The word of a flag that stands alone."""

    word: str


@dataclass(frozen=True, slots=True)
class Beside:
    """A flag whose words may name a path; ``place`` takes one from a folder."""

    place: Callable[[str, Path], str]


@dataclass(frozen=True, slots=True)
class ShownDefault:
    """The default that ``--help`` shows of a flag, in place of the one that it shows elsewhere."""

    words: str


def at_commas(word: str) -> list[str]:
    """Return the parts of a word between commas, of which the last may be followed by nothing."""
    parts = [part.strip() for part in word.split(",")]
    return parts[:-1] if len(parts) > 1 and not parts[-1] else parts


@dataclass(frozen=True, slots=True)
class Many:
    """A flag that takes every word up to the next flag; ``parts`` says what is in each."""

    parts: Callable[[str], list[str]] = at_commas


def paths(word: str) -> list[str]:
    """Return the paths between commas; a path that is there is taken as it stands."""
    return [word] if is_there(word) else at_commas(word)


def is_there(path: str) -> bool:
    """True for the name of a file or folder that exists."""
    try:
        return Path(path).expanduser().exists()
    except (OSError, RuntimeError, ValueError):  # no name of a file, or of a user
        return False


def existing_beside(word: str, folder: Path) -> str:
    """Return a word that is a path, or KIND:PATH, with the path taken from ``folder``, where
    something is; else the word."""
    head, colon, tail = word.partition(":")
    if is_there(str(folder / word)):
        return str(folder / word)
    if colon and is_there(str(folder / tail)):
        return f"{head}:{folder / tail}"
    return word


def word_of(known: Iterable[str]) -> Callable[[Any], str]:
    """Return a parser for one of the words."""
    words = tuple(known)

    def parse(word: Any) -> str:
        if str(word) in words:
            return str(word)
        raise typer.BadParameter(
            f"{str(word)!r} is none of {', '.join(words)}{did_you_mean(str(word), words)}"
        )

    return parse


def member_of(kind: type[Enum]) -> Callable[[Any], Enum]:
    """Return a parser for the values of an enum of words."""
    parse = word_of(member.value for member in kind)
    return lambda word: word if isinstance(word, kind) else kind(parse(word))


def whole_number(word: Any) -> int:
    """Parse a whole number."""
    try:
        return int(word)
    except ValueError:
        raise typer.BadParameter(f"{str(word)!r} is no whole number") from None


def number(word: Any) -> float:
    """Parse a number."""
    try:
        return float(word)
    except ValueError:
        raise typer.BadParameter(f"{str(word)!r} is no number") from None
