from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, ClassVar

import pytest

from autotune.documents.base import US, Document, Row, digits


class _Kind(StrEnum):
    ONE = "one"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part(Row):
    path: Path | None = None
    us: float | None = field(default=None, metadata=US)
    shares: Mapping[_Kind, float] = field(default_factory=dict, metadata=digits(1))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Whole(Document):
    schema: ClassVar[str] = "autotune/whole/1"
    parts: tuple[Any, ...] = ()


def test_the_schema_is_the_first_key() -> None:
    assert json.dumps(_Whole().as_json()) == '{"schema": "autotune/whole/1", "parts": []}'


def test_a_document_in_a_document_has_its_own() -> None:
    [part] = _Whole(parts=(_Whole(),)).as_json()["parts"]
    assert part == {"schema": "autotune/whole/1", "parts": []}


def test_paths_are_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert _Part(path=Path("a/b.json")).as_json()["path"] == str(tmp_path / "a/b.json")
    assert _Part().as_json()["path"] is None


def test_json_is_rounded_and_the_object_is_not() -> None:
    row = _Part(us=1.23456, shares={_Kind.ONE: 0.123})
    assert row.us == 1.23456
    assert row.as_json() == {"path": None, "us": 1.23, "shares": {"one": 0.1}}


@pytest.mark.parametrize("value", [b"bytes", {1, 2}, object()])
def test_what_json_does_not_have_is_a_bug(value: object) -> None:
    with pytest.raises(TypeError, match="nothing that JSON has"):
        _Whole(parts=(value,)).as_json()
