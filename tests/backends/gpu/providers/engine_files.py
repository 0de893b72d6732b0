"""Checks the files of an engine, as of an unpacked wheel, for what its provider calls."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from autotune.backends.gpu.providers.engine import Needs, Symbol


def faults_in_files(needs: Needs, root: Path) -> list[str]:
    """Return what is missing in the files of an unpacked wheel: nothing is imported."""
    faults: list[str] = []
    for symbol in needs.symbols.values():
        declared = declared_parameters(root, symbol)
        if declared is None:
            faults.append(f"{symbol}: not found")
        else:
            faults += symbol.missing(declared)
    return faults


def declared_parameters(root: Path, symbol: Symbol) -> list[str] | None:
    """Return the parameters of a function, or annotated fields of a class, in the file of its
    module or in the one that it is imported from; None where there is neither."""
    path = _file(root, symbol.module)
    if path is None:
        return None
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef) and node.name == symbol.name:
            arguments = node.args
            return [a.arg for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
        if isinstance(node, ast.ClassDef) and node.name == symbol.name:
            return list(_fields(node))
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = {alias.asname or alias.name: alias.name for alias in node.names}
            if symbol.name in names:
                return declared_parameters(root, Symbol(node.module, names[symbol.name]))
    return None


def _fields(node: ast.ClassDef) -> Iterator[str]:
    for item in node.body:
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
            yield item.target.id
        if isinstance(item, ast.Assign):  # the members of an enum
            yield from (target.id for target in item.targets if isinstance(target, ast.Name))


def _file(root: Path, module: str) -> Path | None:
    base = root.joinpath(*module.split("."))
    candidates = (base.with_suffix(".py"), base / "__init__.py")
    return next((path for path in candidates if path.is_file()), None)
