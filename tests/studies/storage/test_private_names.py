"""What touches Optuna's private names stays in one folder."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import autotune

_ROOT = Path(autotune.__file__).parent
_FOLDER = _ROOT / "studies" / "storage"
_PRIVATE = {"_storage", "_study_id", "_trial_id", "_backend", "_rdb", "__table__"}
"""Attributes of Optuna's studies, trials, storages and models."""


def _private_uses(source: str) -> Iterator[int]:
    """Lines that use a private name of Optuna; an object's own attributes are its affair."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Attribute(value=ast.Name(id="self")):
                pass
            case ast.Attribute(attr=name) if name in _PRIVATE:
                yield node.lineno
            case ast.ImportFrom(module=str(module)) if module.startswith("optuna"):
                words = [*module.split("."), *(alias.name for alias in node.names)]
                if any(word.startswith("_") for word in words):
                    yield node.lineno
            case ast.Import():
                modules = [alias.name for alias in node.names]
                if any(m.startswith("optuna") and "._" in m for m in modules):
                    yield node.lineno
            case _:
                pass


@pytest.mark.parametrize(
    "source",
    [
        "study._storage.get_all_trials()",
        "x = self.study._study_id",
        "from optuna.storages._rdb import models",
        "from optuna.storages import _rdb",
        "import optuna.storages._rdb.models",
    ],
)
def test_a_private_use_is_found(source: str) -> None:
    assert list(_private_uses(source)) == [1]


def test_optunas_private_names_are_used_in_one_folder() -> None:
    uses = {
        path.relative_to(_ROOT)
        for path in _ROOT.rglob("*.py")
        if list(_private_uses(path.read_text(encoding="utf-8")))
    }
    assert uses
    folder = _FOLDER.relative_to(_ROOT)
    assert [path for path in sorted(uses) if not path.is_relative_to(folder)] == []
