"""Prints which model classes the engines have, as ``autotune/engines/classes.json`` keeps them.

    pip download --no-deps --dest wheels --requirement tests/engines/wheels.txt
    python benchmarks/names/classes.py wheels > autotune/engines/classes.json

For a model that an engine has no class for, it takes that of transformers, whose classes with
experts are listed, too.
"""

from __future__ import annotations

import ast
import json
import re
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SERVED = ("_TEXT_GENERATION_MODELS", "_MULTIMODAL_MODELS", "_TRANSFORMERS_SUPPORTED_MODELS")
FILES = {
    "sglang": r"sglang/srt/models/.*\.py",
    "transformers": r"transformers/models/\w+/modeling_\w+\.py",
    "vllm": r"vllm/model_executor/models/registry\.py",
}


def classes_in(folder: Path) -> dict[str, Any]:
    """Return version and classes of each package that has a wheel in the folder."""
    wheels = {name: max(folder.glob(f"{name}-*.whl"), default=None) for name in FILES}
    return {
        name: {"version": wheel.name.split("-")[1], "classes": sorted({*_classes(name, wheel)})}
        for name, wheel in wheels.items()
        if wheel is not None
    }


def _classes(package: str, wheel: Path) -> Iterator[str]:
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.namelist():
            if re.fullmatch(FILES[package], member):
                yield from FOUND[package](archive.read(member).decode())


def _of_registry(text: str) -> Iterator[str]:
    for name, value in _assigned(text):
        if name in SERVED and isinstance(value, ast.Dict):
            yield from (key.value for key in value.keys if isinstance(key, ast.Constant))


def _of_entry_class(text: str) -> Iterator[str]:
    for name, value in _assigned(text) if "EntryClass" in text else ():
        if name == "EntryClass":
            yield from (part.id for part in ast.walk(value) if isinstance(part, ast.Name))


def _with_experts(text: str) -> Iterator[str]:
    if "self.experts" in text:
        yield from re.findall(r"^class (\w+For(?:CausalLM|ConditionalGeneration))\(", text, re.M)


FOUND = {"sglang": _of_entry_class, "transformers": _with_experts, "vllm": _of_registry}


def _assigned(text: str) -> Iterator[tuple[str, ast.expr]]:
    for node in ast.parse(text).body:
        if isinstance(node, ast.Assign):
            yield ast.unparse(node.targets[0]), node.value


def main() -> None:
    """Print the classes of the wheels in the folder that is given."""
    print(json.dumps(classes_in(Path(sys.argv[1])), indent=1))


if __name__ == "__main__":
    main()
