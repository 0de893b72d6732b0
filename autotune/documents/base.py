"""What every document and every row of one is: a frozen value that becomes JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import Enum
from pathlib import Path
from typing import Any, ClassVar

_DIGITS = "digits"


def digits(number: int) -> Mapping[str, int]:
    """Return a field's metadata: JSON has so many digits behind the point of its numbers, the
    object itself all of them."""
    return {_DIGITS: number}


US = digits(2)
"""Of times in µs."""
RATIO = digits(3)
"""Of speed-ups."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A part of a document. Its fields are the keys of JSON, in their order; all of them are always
    there, null where there is nothing to say."""

    __pydantic_config__: ClassVar[Mapping[str, bool]] = {"use_attribute_docstrings": True}
    """The docstring under a field is its description in docs/schemas."""

    def as_json(self) -> dict[str, Any]:
        """Return what ``json.dumps`` takes: absolute paths, numbers rounded."""
        return {
            field.name: _as_json(getattr(self, field.name), field.metadata.get(_DIGITS))
            for field in fields(self)
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Document(Row):
    """One answer of one command: what ``--json`` prints."""

    schema: ClassVar[str]
    """``autotune/<name>/<version>``, the first key. The version is raised where a field goes or
    comes to mean something else; a field that is added does not raise it."""

    def as_json(self) -> dict[str, Any]:
        """Return what ``json.dumps`` takes: ``schema``, then the fields."""
        return {"schema": self.schema, **Row.as_json(self)}


def _as_json(value: object, places: int | None) -> Any:
    match value:
        case Row():
            return value.as_json()
        case Path():
            return str(value.absolute())
        case Mapping():
            return {_as_json(key, None): _as_json(each, places) for key, each in value.items()}
        case tuple() | list():
            return [_as_json(each, places) for each in value]
        case float() if places is not None:
            return round(value, places)
        case None | str() | int() | float():
            return value.value if isinstance(value, Enum) else value
    raise TypeError(f"{value!r} is nothing that JSON has")
