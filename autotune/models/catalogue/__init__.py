"""The catalogue: configs of published models, so that no network is needed.

``models.jsonl`` beside this file has one line per model: its Hugging Face name, and those fields of
its published config.json that say what its experts are.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

from autotune.models.parse import shape_of_config
from autotune.models.shape import ModelShape


def catalogue_shapes() -> tuple[ModelShape, ...]:
    """Return every known model, sorted by name without regard to case."""
    names = sorted(catalogue_configs(), key=str.lower)
    return tuple(shape_of_config(name, catalogue_configs()[name]) for name in names)


def find_in_catalogue(model: str) -> ModelShape | None:
    """Return the known model of this name, or of this name after the slash if only one has it.

    Upper and lower case do not matter.
    """
    wanted = model.lower()
    full = [name for name in catalogue_configs() if name.lower() == wanted]
    bare = [name for name in catalogue_configs() if name.lower().rpartition("/")[2] == wanted]
    found = full or bare
    return shape_of_config(found[0], catalogue_configs()[found[0]]) if len(found) == 1 else None


@cache
def catalogue_configs() -> Mapping[str, Mapping[str, Any]]:
    """Name → the fields of its published config."""
    file = resources.files("autotune.models.catalogue") / "models.jsonl"
    lines = file.read_text(encoding="utf-8").splitlines()
    entries = [json.loads(line) for line in lines if line]
    return {entry["name"]: entry["config"] for entry in entries}
