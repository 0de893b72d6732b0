"""Pieces of an engine's own source, taken out of its files and run with stand-ins for a device.

An engine cannot be imported without its GPU packages. A function, a method, or the part of a
constructor that a few values rest on can be run by itself: what it names is looked for among the
stand-ins, then in its file, then where the file imports it from, and is run from there.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from zipfile import Path as ZipPath

Package = Path | ZipPath
"""The folder of a package, on disk or in its wheel."""
Definition = ast.ClassDef | ast.FunctionDef
_NEVER_IMPORTED = ("sglang", "torch", "triton", "vllm")
"""Packages that a function imports in its body, and that stand-ins stand for."""


class NotFoundError(LookupError):
    """The engine's files have no such piece: another version, or a name of ours that is wrong."""


@dataclass(eq=False)
class Source:
    """An engine's package folder, and every piece of it that was run."""

    root: Package
    stand_ins: Mapping[str, Any]
    """Values by name, for every file."""
    used: set[str] = field(default_factory=set)
    """``file:line name`` of each piece that was run."""

    def __post_init__(self) -> None:
        self._trees: dict[str, ast.Module] = {}
        self._modules: dict[str, _Names] = {}

    def tree(self, file: str) -> ast.Module:
        if file not in self._trees:
            path = self.root / file
            if not path.is_file():
                raise NotFoundError(f"no {file} in {self.root}")
            self._trees[file] = ast.parse(path.read_text(encoding="utf-8"))
        return self._trees[file]

    def get(self, file: str, name: str) -> Any:
        """Return what a file calls ``name``: a function, a class to ask methods of, a value."""
        module = self._modules.setdefault(file, _Names(self, file))
        try:
            return module[name]
        except KeyError:
            raise NotFoundError(f"no {name} in {file}") from None

    def function(self, file: str, name: str) -> ast.FunctionDef:
        """Return a method's definition, of which a part is run."""
        node = self.definition(file, name)
        assert isinstance(node, ast.FunctionDef)
        self.used.add(f"{file}:{node.lineno} {name}")
        return node

    def method(self, file: str, name: str, method: str) -> Any:
        """Return a method of a class, whatever stands in for the class itself."""
        node = self.definition(file, name)
        assert isinstance(node, ast.ClassDef)
        return getattr(_Class(self, file, node), method)

    def definition(self, file: str, name: str) -> Definition:
        """Return a definition by its name, ``Class.method`` for one in a class."""
        body: Sequence[ast.stmt] = self.tree(file).body
        for part in name.split("."):
            kinds = (ast.ClassDef, ast.FunctionDef)
            found = [s for s in body if isinstance(s, kinds) and s.name == part]
            if not found:
                raise NotFoundError(f"no {name} in {file}")
            node, body = found[-1], found[-1].body
        return node

    def call_in(self, file: str, name: str, *keywords: str) -> tuple[ast.FunctionDef, ast.Call]:
        """Return the last call in a class that has the keywords, and the method that it is in."""
        for method in self.definition(file, name).body:
            calls = [c for c in ast.walk(method) if isinstance(c, ast.Call)]
            found = [c for c in calls if {*keywords} <= {k.arg for k in c.keywords}]
            if isinstance(method, ast.FunctionDef) and found:
                self.used.add(f"{file}:{found[-1].lineno} {name}.{method.name}")
                return method, found[-1]
        raise NotFoundError(f"no call with {keywords} in {name} of {file}")

    def statement(self, file: str, words: str) -> ast.If:
        """Return the if whose condition has the words."""
        found = [s for s in ast.walk(self.tree(file)) if isinstance(s, ast.If)]
        for statement in found:
            if words in ast.unparse(statement.test):
                return statement
        raise NotFoundError(f"no {words} in {file}")

    def constants_given(self, file: str, name: str) -> dict[str, Any]:
        """Return the constants that the calls of a name in a file give, by keyword."""
        given: dict[str, Any] = {}
        for call in ast.walk(self.tree(file)):
            if isinstance(call, ast.Call) and ast.unparse(call.func) == name:
                self.used.add(f"{file}:{call.lineno} {name}()")
                constants = (
                    k for k in call.keywords if k.arg and isinstance(k.value, ast.Constant)
                )
                given |= {str(k.arg): k.value.value for k in constants}  # type: ignore[attr-defined]
        return given

    def part_of(
        self,
        file: str,
        method: ast.FunctionDef,
        wanted: set[str],
        names: Mapping[str, Any],
        *,
        before: int = 0,
    ) -> dict[str, Any]:
        """Run what ``wanted`` (names, ``self.x``) rests on in a method; return its names then.

        Assignments to what is needed are kept in their order with the ifs around them, and so are
        asserts about it, and raises about the number of ranks. ``before`` is a line to stop at.
        """
        kept: list[ast.stmt] = []
        needed = set(wanted) - set(names)
        for statement in reversed(method.body):
            if not before or statement.lineno < before:
                kept = _kept(statement, needed) + kept
        scope = _Names(self, file)
        scope.update(_defaults(method))
        scope.update(names)
        module = ast.Module(body=_bare(kept, scope), type_ignores=[])
        exec(_compiled(module, file, "exec"), scope)
        return scope

    def value(self, file: str, expression: ast.expr, names: dict[str, Any]) -> Any:
        return eval(_compiled(ast.Expression(expression), file, "eval"), names)


class _Names(dict[str, Any]):
    """A file's globals, made when they are asked for."""

    def __init__(self, source: Source, file: str) -> None:
        super().__init__()
        self.source, self.file = source, file
        self.imports = dict(_imports(source.tree(file)))
        self.functions: dict[int, Any] = {}

    def __missing__(self, name: str) -> Any:
        if name in self.source.stand_ins:
            return self.source.stand_ins[name]
        for node in reversed(self.source.tree(self.file).body):
            if isinstance(node, ast.FunctionDef) and node.name == name:
                self[name] = self.function(node, name)
                return self[name]
            if isinstance(node, ast.ClassDef) and node.name == name:
                self[name] = _Class(self.source, self.file, node)
                return self[name]
            if name in targets_of(node) and getattr(node, "value", None) is not None:
                self.source.used.add(f"{self.file}:{node.lineno} {name}")
                self[name] = self.source.value(self.file, node.value, self)  # type: ignore[attr-defined]
                return self[name]
        if name in self.imports:
            module, original = self.imports[name]
            for file in _files_of(self.source.root, self.file, module):
                return self.source.get(file, original)
        raise KeyError(name)

    def function(self, node: ast.FunctionDef, called: str) -> Any:
        """Return the engine's function, without decorators and annotations."""
        self.source.used.add(f"{self.file}:{node.lineno} {called}")
        if node.lineno in self.functions:
            return self.functions[node.lineno]
        module = ast.Module(body=_bare([node], self), type_ignores=[])
        own: dict[str, Any] = {}
        for name in set().union(*map(reads, filter(None, _default_values(node)))):
            with suppress(KeyError):  # a built-in
                self[name] = self[name]  # where defaults are made, nothing is made when asked for
        exec(_compiled(module, self.file, "exec"), self, own)
        self.functions[node.lineno] = own[node.name]
        return own[node.name]


@dataclass(frozen=True)
class _Class:
    """A class of the engine's, of which methods and constants can be asked."""

    source: Source
    file: str
    node: ast.ClassDef

    def __getattr__(self, name: str) -> Any:
        return self._find(name, self)

    def _find(self, name: str, cls: _Class) -> Any:
        module = self.source._modules.setdefault(self.file, _Names(self.source, self.file))
        for statement in self.node.body:
            if isinstance(statement, ast.FunctionDef) and statement.name == name:
                function = module.function(statement, f"{self.node.name}.{name}")
                words = {ast.unparse(word) for word in statement.decorator_list}
                return partial(function, cls) if "classmethod" in words else function
            if name in targets_of(statement) and getattr(statement, "value", None) is not None:
                return self.source.value(self.file, statement.value, module)  # type: ignore[attr-defined]
        for base in self.node.bases:
            try:
                found = module[ast.unparse(base)]
            except KeyError:
                continue
            if isinstance(found, _Class):
                try:
                    return found._find(name, cls)
                except AttributeError:
                    continue
        raise AttributeError(name)


def _compiled(node: ast.AST, file: str, mode: str) -> Any:
    return compile(ast.fix_missing_locations(node), file, mode)  # type: ignore[call-overload]


class _Bare(ast.NodeTransformer):
    """Takes annotations, decorators and imports of the engine away; what was imported is noted."""

    def __init__(self, names: _Names) -> None:
        self.names = names

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        self.generic_visit(node)
        return ast.copy_location(
            ast.FunctionDef(name=node.name, args=node.args, body=node.body, decorator_list=[]), node
        )

    def visit_arg(self, node: ast.arg) -> ast.AST:
        return ast.copy_location(ast.arg(arg=node.arg), node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        if node.value is None:
            return ast.copy_location(ast.Pass(), node)
        return ast.copy_location(ast.Assign(targets=[node.target], value=node.value), node)

    def visit_Import(self, node: ast.Import) -> ast.AST:
        heavy = any(alias.name.split(".")[0] in _NEVER_IMPORTED for alias in node.names)
        return ast.copy_location(ast.Pass(), node) if heavy else node

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST:
        if not node.level and (node.module or "").split(".")[0] not in _NEVER_IMPORTED:
            return node
        self.names.imports.update(_imports(ast.Module(body=[node], type_ignores=[])))
        return ast.copy_location(ast.Pass(), node)


def _bare(body: list[ast.stmt], names: _Names) -> list[ast.stmt]:
    copies = [ast.parse(ast.unparse(statement)).body[0] for statement in body]
    for copy, statement in zip(copies, body, strict=True):
        ast.increment_lineno(copy, statement.lineno - 1)
    return [_Bare(names).visit(copy) for copy in copies]


def _default_values(node: ast.FunctionDef) -> list[ast.expr | None]:
    return [*node.args.defaults, *node.args.kw_defaults]


def _defaults(method: ast.FunctionDef) -> dict[str, Any]:
    """Return the parameters that have a constant for a default."""
    plain = method.args.args
    pairs = list(
        zip(plain[len(plain) - len(method.args.defaults) :], method.args.defaults, strict=True)
    )
    pairs += [
        (a, d) for a, d in zip(method.args.kwonlyargs, method.args.kw_defaults, strict=True) if d
    ]
    return {a.arg: d.value for a, d in pairs if isinstance(d, ast.Constant)}


def _imports(tree: ast.Module) -> Iterator[tuple[str, tuple[str, str]]]:
    for node in tree.body:
        if isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            yield from ((alias.asname or alias.name, (module, alias.name)) for alias in node.names)


def _files_of(root: Package, file: str, module: str) -> Iterator[str]:
    """Yield the file of an imported module of the package, relative to its root."""
    level = len(module) - len(module.lstrip("."))
    parts = [part for part in module.lstrip(".").split(".") if part]
    if level:
        parts = [*Path(file).parts[:-level], *parts]
    elif parts[0] == root.name:
        parts = parts[1:]
    else:
        return
    for name in ("/".join(parts) + ".py", "/".join([*parts, "__init__.py"])):
        if (root / name).is_file():
            yield name


def targets_of(statement: ast.AST) -> list[str]:
    """Return what a statement assigns: names, and ``self.x``."""
    if isinstance(statement, ast.Assign):
        targets: list[ast.expr] = statement.targets
    elif isinstance(statement, ast.AnnAssign | ast.AugAssign):
        targets = [statement.target]
    else:
        return []
    parts = [e for t in targets for e in (t.elts if isinstance(t, ast.Tuple) else [t])]
    return [ast.unparse(part) for part in parts]


def reads(node: ast.AST) -> set[str]:
    """Return the names and the ``self.x`` that a piece reads."""
    found = set()
    for part in ast.walk(node):
        if isinstance(part, ast.Attribute) and isinstance(part.value, ast.Name):
            found |= {f"self.{part.attr}"} if part.value.id == "self" else set()
        elif isinstance(part, ast.Name) and isinstance(part.ctx, ast.Load):
            found.add(part.id)
    return found - {"self", "config"}


def _kept(statement: ast.stmt, needed: set[str]) -> list[ast.stmt]:
    if isinstance(statement, ast.If):
        return _kept_if(statement, needed)
    if isinstance(statement, ast.Assert):
        assigned = {name for name in reads(statement.test) if "." in name or name in needed}
        if not assigned or not assigned <= needed | {"self.moe_tp_size"}:
            return []
        needed |= reads(statement.test)
        return [statement]
    if needed & set(targets_of(statement)) and getattr(statement, "value", None) is not None:
        needed |= reads(statement.value)  # type: ignore[attr-defined]
        return [statement]
    return []


def _kept_if(statement: ast.If, needed: set[str]) -> list[ast.stmt]:
    raises: list[ast.stmt] = [part for part in statement.body if isinstance(part, ast.Raise)]
    if raises and "tp_size" in ast.unparse(statement.test):
        needed |= reads(statement.test)
        return [ast.copy_location(ast.If(statement.test, raises[:1], []), statement)]
    both = []
    for body in (statement.body, statement.orelse):
        kept: list[ast.stmt] = []
        for part in reversed(body):
            kept = _kept(part, needed) + kept
        both.append(kept)
    if not any(both):
        return []
    needed |= reads(statement.test)
    return [ast.copy_location(ast.If(statement.test, both[0] or [ast.Pass()], both[1]), statement)]
