"""JSON Schemas of all documents, as docs/schemas publishes them.

    python tests/documents/published_schemas.py     # writes docs/schemas/*.json

A field that goes, or comes to be of another type, needs another version (``Document.schema``):
without one nothing is written.
"""

from __future__ import annotations

import importlib
import json
import pkgutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

import autotune.documents
from autotune.documents.base import Document

FOLDER = Path(__file__).parents[2] / "docs" / "schemas"
Schema = dict[str, Any]


class _Untitled(GenerateJsonSchema):
    """Leaves out titles that only repeat names."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def documents() -> list[type[Document]]:
    """Return every document, by name."""
    found = {}
    for module in pkgutil.iter_modules(autotune.documents.__path__):
        values = vars(importlib.import_module(f"autotune.documents.{module.name}")).values()
        of_module = (v for v in values if isinstance(v, type) and issubclass(v, Document))
        found |= {each.schema: each for each in of_module if each is not Document}
    return [found[name] for name in sorted(found)]


def path_of(document: type[Document]) -> Path:
    """Return the file of a document's schema: one for all versions, which holds the newest."""
    return FOLDER / f"{document.schema.split('/')[1]}.json"


def schema_of(document: type[Document]) -> Schema:
    """Return the schema of a document, and of those within it."""
    made = TypeAdapter(document).json_schema(mode="serialization", schema_generator=_Untitled)
    known = {each.__name__: each.schema for each in documents()}
    for name, part in (*made.get("$defs", {}).items(), (document.__name__, made)):
        part.pop("title", None)
        if name in known:
            part["properties"] = {"schema": {"const": known[name]}, **part["properties"]}
            part["required"] = ["schema", *part["required"]]
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": document.schema}
    whole: Schema = _described(head | made)
    return whole


def _described(node: Any) -> Any:
    """Return the same with each description on one line, in Markdown."""
    if isinstance(node, dict):
        return {
            key: " ".join(value.replace("``", "`").split())
            if key == "description" and isinstance(value, str)
            else _described(value)
            for key, value in node.items()
        }
    return [_described(each) for each in node] if isinstance(node, list) else node


def broken(before: Schema, after: Schema) -> list[str]:
    """Return what ``before`` promises and ``after``, of the same version, does not keep. More
    fields, and more words where there is a choice of them, break nothing."""
    if before["title"] != after["title"]:
        return []
    kept = set(_promises(after, after))
    return [each for each in dict.fromkeys(_promises(before, before)) if each not in kept]


def _promises(node: Schema, whole: Schema, path: str = "") -> Iterator[str]:
    options = [_resolved(each, whole) for each in node.get("anyOf", [node])]
    kinds = sorted(each.get("format", each.get("type", "string")) for each in options)
    yield f"{path} is {' or '.join(kinds)}"
    for option in options:
        yield from (f"{path} may be {word}" for word in option.get("enum", ()))
        for name, field in option.get("properties", {}).items():
            if name in option.get("required", ()):
                yield f"{path}.{name} is always there"
            yield from _promises(field, whole, f"{path}.{name}")
        for key in ("items", "additionalProperties"):
            if isinstance(option.get(key), dict):
                yield from _promises(option[key], whole, f"{path}[]")


def _resolved(node: Schema, whole: Schema) -> Schema:
    found: Schema = whole["$defs"][node["$ref"].rpartition("/")[2]] if "$ref" in node else node
    return found


def main() -> None:
    """Write the schemas."""
    FOLDER.mkdir(exist_ok=True)
    for document in documents():
        path, schema = path_of(document), schema_of(document)
        lost = broken(json.loads(path.read_text()), schema) if path.exists() else []
        if lost:
            sys.exit(f"raise the version of {document.schema}, or keep {lost}")
        path.write_text(json.dumps(schema, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
