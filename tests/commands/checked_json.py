"""What ``--json`` printed, held against its published schema."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema

SCHEMAS = Path(__file__).parents[2] / "docs" / "schemas"
_FORMATS = jsonschema.FormatChecker(formats=())


@_FORMATS.checks("path")
def _is_absolute(text: object) -> bool:
    return not isinstance(text, str) or Path(text).is_absolute()


def _strict(node: Any) -> Any:
    """Return a schema that allows no key that it does not name: more may come, but not unsaid."""
    if isinstance(node, list):
        return [_strict(each) for each in node]
    if not isinstance(node, dict):
        return node
    found = {key: _strict(value) for key, value in node.items()}
    return {"additionalProperties": False, **found} if "properties" in node else found


def checked(text: str, name: str) -> Any:
    """Return the document in ``text``, which must be as its schema says."""
    found = json.loads(text)
    assert next(iter(found)) == "schema"
    assert found["schema"] == f"autotune/{name}/1"
    schema = json.loads((SCHEMAS / f"{name}.json").read_text())
    jsonschema.Draft202012Validator(_strict(schema), format_checker=_FORMATS).validate(found)
    return found
