"""``autotune.toml``: flags that one gives again and again. docs/configuration.md is its manual.

A key is a flag without its dashes; at the top it holds for every command that has the flag, in a
table such as ``[run]`` or ``["storage check"]`` for that one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import typer

from autotune.commands.flag_fields import FlagField, flag_fields
from autotune.commands.output import OutputFlags
from autotune.commands.registry import COMMANDS, Command
from autotune.errors import UsageError
from autotune.nearest import did_you_mean

DEFAULT_FILE = Path("autotune.toml")
NO_FILE = "none"
_FLAG = "--config"
_KINDS: Mapping[type, str] = {bool: "true or false", int: "a whole number", float: "a number"}


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """A file of flags that was read."""

    path: Path
    content: Mapping[str, Any]

    def values(self, command: Command, flags: Sequence[FlagField]) -> dict[str, Any]:
        """Return field → value of the command's flags that the file has. Raises UsageError, which
        names file and key, for what no flag is or takes."""
        tables = {key: value for key, value in self.content.items() if isinstance(value, Mapping)}
        self._check_tables(tables)
        top = {key: value for key, value in self.content.items() if key not in tables}
        known = _by_key(flags)
        self._check_keys([key for key in top if key not in known])
        found = self._of_table("", {key: top[key] for key in top if key in known}, known)
        own = tables.get(command.name, {})
        for key in own:
            if key not in known:
                raise self._error(
                    f"[{command.name}] {key}", f"is no flag of it{did_you_mean(key, known)}"
                )
        return found | self._of_table(f"[{command.name}] ", own, known)

    def _of_table(
        self, table: str, values: Mapping[str, Any], known: Mapping[str, FlagField]
    ) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in values.items():
            field = known[key]
            if field.name in found:
                raise self._error(f"{table}{key}", "is there twice, under two of its names")
            try:
                found[field.name] = _value(field, value, self.path.parent)
            except typer.BadParameter as error:
                hint = "" if table or not isinstance(value, list) else _OF_ONE
                raise self._error(f"{table}{key}", f"{error.message}{hint}") from error
        return found

    def _check_tables(self, tables: Iterable[str]) -> None:
        names = [command.name for command in COMMANDS]
        for name in tables:
            if name not in names:
                raise self._error(f"[{name}]", f"is no command{did_you_mean(name, names)}")

    def _check_keys(self, keys: list[str]) -> None:
        """Check keys that the command does not have: some command must. Each is asked only where
        those before it do not know them all, as it has to be imported."""
        known: set[str] = set()
        for command in COMMANDS if keys else ():
            known |= _by_key(flag_fields(command.load().Flags)).keys()
            if known.issuperset(keys):
                return
        for key in (key for key in keys if key not in known):
            raise self._error(key, f"is no flag of any command{did_you_mean(key, known)}")

    def _error(self, key: str, words: str) -> UsageError:
        return UsageError(f"{self.path}: {key} {words}")


_OF_ONE = ". A table such as [run] holds for one command only"


def read_config(words: Sequence[str], before: str | None) -> ConfigFile | None:
    """Return the file that ``--config`` names among a command's words or ``before`` it, else the
    current folder's, if any. Raises UsageError where it cannot be read."""
    named = _named(words) or before
    is_there = DEFAULT_FILE.is_file() or DEFAULT_FILE.is_symlink()  # to nothing is an error
    if named == NO_FILE or (named is None and not is_there):
        return None
    import tomllib

    path = Path(named or DEFAULT_FILE)
    try:
        return ConfigFile(path, tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise UsageError(f"{_FLAG} {path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:  # TOMLDecodeError and UnicodeDecodeError, too
        raise UsageError(f"{path} is no TOML: {error}") from error


def asks_for_json(words: Sequence[str]) -> bool:
    """True where JSON is wanted by words that could not be parsed, or by the file for them."""
    if "--json" in words or "--no-json" in words:
        return "--json" in words
    try:
        file = read_config(words, None)
    except UsageError:
        return False
    content = file.content if file else {}
    own = (content.get(each.name) for each in COMMANDS if {*each.name.split()} <= {*words})
    tables = [*(each for each in own if isinstance(each, Mapping)), content]
    return next((each["json"] for each in tables if "json" in each), False) is True


def _named(words: Sequence[str]) -> str | None:
    found = None
    for word, after in pairwise([*words, None]):
        if word is None or word == "--":
            break
        if word == _FLAG:
            found = after
        elif word.startswith(f"{_FLAG}="):
            found = word.partition("=")[2]
    return found


def _by_key(flags: Iterable[FlagField]) -> dict[str, FlagField]:
    return {
        name.lstrip("-"): field
        for field in (*flags, *flag_fields(OutputFlags))
        for name in field.names
        if name.startswith("--") and name != _FLAG
    }


def _value(field: FlagField, value: Any, folder: Path) -> Any:
    """Return what the flag is with this value. Raises typer.BadParameter."""
    if not field.is_tuple:
        if isinstance(value, list):
            raise typer.BadParameter("is a list; it takes one value")
        return _one(field, value, folder)
    if isinstance(value, str) and field.many:
        value = field.many.parts(value)
    return [_one(field, each, folder) for each in (value if isinstance(value, list) else [value])]


def _one(field: FlagField, value: Any, folder: Path) -> Any:
    allowed: tuple[type, ...] = {int: (int,), float: (int, float), bool: (bool,)}.get(
        field.kind, (str, int) if field.is_tuple else (str,)
    )
    if not isinstance(value, allowed) or (isinstance(value, bool) and bool not in allowed):
        raise typer.BadParameter(f"is {value!r:.60}; it is {_KINDS.get(field.kind, 'a string')}")
    try:
        parsed = field.parse(value)
    except typer.BadParameter as error:
        raise typer.BadParameter(f"is {error.message}") from error
    return parsed if folder.absolute() == Path.cwd() else field.beside(parsed, folder)
