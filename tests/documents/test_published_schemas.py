"""docs/schemas has the schema of every document, and keeps what it promised."""

from __future__ import annotations

import json
from copy import deepcopy
from typing import Any

import jsonschema
import pytest
from published_schemas import (  # type: ignore[import-not-found]
    FOLDER,
    Schema,
    broken,
    documents,
    path_of,
    schema_of,
)

from autotune.documents.base import Document
from autotune.documents.run import ResumeDocument, RunDocument
from autotune.documents.storage import StatusDocument


@pytest.mark.parametrize("document", documents(), ids=lambda each: each.schema)
def test_what_is_published_is_what_is_printed(document: type[Document]) -> None:
    schema, path = schema_of(document), path_of(document)
    again = "run 'python tests/documents/published_schemas.py'"
    assert path.exists(), f"{document.schema} is not published: {again}"
    lost = broken(json.loads(path.read_text()), schema)
    assert not lost, f"raise the version of {document.schema}, or keep {lost}"
    assert json.loads(path.read_text()) == schema, f"{path.name} is not up to date: {again}"


def test_nothing_is_published_that_no_command_prints() -> None:
    assert set(FOLDER.glob("*.json")) == set(map(path_of, documents()))


@pytest.mark.parametrize("document", documents(), ids=lambda each: each.schema)
def test_every_field_is_described(document: type[Document]) -> None:
    schema = schema_of(document)
    jsonschema.Draft202012Validator.check_schema(schema)
    for part in (schema, *schema.get("$defs", {}).values()):
        assert part["description"]
        fields = part.get("properties", {}).items()
        assert [name for name, field in fields if not _is_described(field)] == []


def _is_described(field: Schema) -> bool:
    """True also for the version, and for lists of rows: of what a row is, its own schema says."""
    return "description" in field or "const" in field or "$ref" in field.get("items", {})


def test_a_document_within_another_has_its_schema() -> None:
    [run] = [part for name, part in schema_of(ResumeDocument)["$defs"].items() if "Run" in name]
    assert run["properties"]["schema"] == {"const": RunDocument.schema}
    assert run["required"][0] == "schema"


def _changed(place: str, **changes: Any) -> Schema:
    """Return the schema of ``status`` with a field of its rows changed, or without it."""
    schema = deepcopy(schema_of(StatusDocument))
    row = schema["$defs"]["StudyRow"]
    row["properties"].pop(place, None)
    if changes:
        row["properties"][place] = changes
    return schema


def test_a_field_that_goes_or_changes_needs_another_version() -> None:
    before = schema_of(StatusDocument)
    assert broken(before, before) == []
    assert ".studies[].layer is string" in broken(before, _changed("layer"))
    assert broken(before, _changed("layer", type="integer")) == [".studies[].layer is string"]
    assert broken(before, _changed("state", enum=["finished"], type="string")) == [
        ".studies[].state may be unfinished"
    ]
    optional = deepcopy(before)
    optional["$defs"]["StudyRow"]["required"].remove("layer")
    assert broken(before, optional) == [".studies[].layer is always there"]
    maybe = _changed("layer", anyOf=[{"type": "string"}, {"type": "null"}])
    assert ".studies[].layer is string" in broken(before, maybe)


def test_more_fields_and_words_and_another_version_need_none() -> None:
    before = schema_of(StatusDocument)
    assert broken(before, _changed("more", type="integer")) == []
    words = ["finished", "unfinished", "paused"]
    assert broken(before, _changed("state", enum=words, type="string")) == []
    assert broken(before, _changed("layer") | {"title": "autotune/status/2"}) == []
