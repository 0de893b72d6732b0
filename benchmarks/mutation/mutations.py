"""Mutations of a module's syntax tree: small errors that a test of the module should notice."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

Make = Callable[[], ast.AST]
"""Makes the node that stands in place of another."""

_COMPARED: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
_COMPUTED: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}
_CALLED = {"min": "max", "max": "min", "any": "all", "all": "any"}
_WORDS = (ast.JoinedStr, ast.Raise, ast.Assert)
"""Nodes without behaviour that tests should pin: text for people, and what types demand."""


@dataclass(frozen=True)
class Mutant:
    """One mutation of one module."""

    path: Path
    index: int
    """Place of the mutated node in ``ast.walk``."""
    variant: int
    place: str
    """Function or class that it is in; empty at the module's level."""
    line: int
    statement: str
    """First line of the statement, shortened."""
    change: str
    """Expression before → after."""
    repeat: int = 0
    """Number of mutants before it with the same text."""

    @cached_property
    def key(self) -> str:
        """Text that names the mutant also after lines have moved."""
        again = f" #{self.repeat + 1}" if self.repeat else ""
        return f"{self.path.as_posix()} {self.place}: {self.statement} | {self.change}{again}"

    def tree(self, source: str) -> ast.Module:
        """Return the module's mutated tree."""
        tree = ast.parse(source)
        node = list(ast.walk(tree))[self.index]
        new = _variants(node, _parents(tree))[self.variant]()
        mutated = _Swap(node, new).visit(tree)
        assert isinstance(mutated, ast.Module)
        return ast.fix_missing_locations(mutated)


def mutants_of(path: Path, source: str) -> Iterator[Mutant]:
    """Yield every mutant of a module, in the order of its lines."""
    tree = ast.parse(source)
    parents = _parents(tree)
    seen: dict[str, int] = {}
    found = []
    for index, node in enumerate(ast.walk(tree)):
        if _is_text(node, parents):
            continue
        for variant, make in enumerate(_variants(node, parents)):
            statement = _statement(node, parents)
            found.append(
                Mutant(
                    path,
                    index,
                    variant,
                    _place(node, parents),
                    getattr(node, "lineno", statement.lineno),
                    _shortened(ast.unparse(statement).splitlines()[0]),
                    f"{ast.unparse(node)} -> {ast.unparse(make()) or '(nothing)'}",
                )
            )
    for mutant in sorted(found, key=lambda m: (m.line, m.index, m.variant)):
        repeat = seen.get(mutant.key, 0)
        seen[mutant.key] = repeat + 1
        yield mutant if not repeat else Mutant(**{**_fields(mutant), "repeat": repeat})


def _shortened(text: str, most: int = 80) -> str:
    return text if len(text) <= most else f"{text[:most]}…"


def _fields(mutant: Mutant) -> dict[str, object]:
    return {name: getattr(mutant, name) for name in Mutant.__dataclass_fields__}


def _variants(node: ast.AST, parents: dict[ast.AST, ast.AST]) -> list[Make]:
    """Return makers of what may stand in place of a node."""
    makers = next((of for kind, of in _MAKERS.items() if isinstance(node, kind)), None)
    made = makers(node) if makers else []
    if not made and isinstance(node, (ast.Name, ast.Attribute, ast.Call)):
        return [lambda: ast.UnaryOp(ast.Not(), node)] if _is_condition(node, parents) else []
    return made


def _of_compare(node: ast.Compare) -> list[Make]:
    if len(node.ops) > 1:
        return []

    def make(other: type[ast.cmpop]) -> Make:
        return lambda: ast.Compare(node.left, [other()], node.comparators)

    return [make(other) for other in _COMPARED[type(node.ops[0])]]


def _of_bool_op(node: ast.BoolOp) -> list[Make]:
    other = ast.Or() if isinstance(node.op, ast.And) else ast.And()
    return [lambda: ast.BoolOp(other, node.values)]


def _of_unary_op(node: ast.UnaryOp) -> list[Make]:
    return [lambda: node.operand] if isinstance(node.op, (ast.Not, ast.USub)) else []


def _of_bin_op(node: ast.BinOp) -> list[Make]:
    is_text = any(isinstance(one, ast.JoinedStr) or _is_str(one) for one in (node.left, node.right))
    if is_text or type(node.op) not in _COMPUTED:
        return []
    return [lambda: ast.BinOp(node.left, _COMPUTED[type(node.op)](), node.right)]


def _of_constant(node: ast.Constant) -> list[Make]:
    value = node.value
    if isinstance(value, bool):
        return [lambda: ast.Constant(not value)]
    if isinstance(value, int):
        return [lambda: ast.Constant(value + 1), lambda: ast.Constant(value - 1)]
    if isinstance(value, float):
        return [lambda: ast.Constant(value * 2 or 1.0), lambda: ast.Constant(value / 2 or -1.0)]
    return []


def _of_call(node: ast.Call) -> list[Make]:
    if not isinstance(node.func, ast.Name) or node.func.id not in _CALLED:
        return []
    other = _CALLED[node.func.id]
    return [lambda: ast.Call(ast.Name(other), node.args, node.keywords)]


def _of_return(node: ast.Return) -> list[Make]:
    is_nothing = node.value is None or _is_none(node.value)
    return [] if is_nothing else [lambda: ast.Return(ast.Constant(None))]


def _of_subscript(node: ast.Subscript) -> list[Make]:
    return [lambda: node.value] if isinstance(node.slice, ast.Slice) else []


def _of_comprehension(node: ast.comprehension) -> list[Make]:
    return [lambda: ast.comprehension(node.target, node.iter, [], node.is_async)] * len(node.ifs)


_MAKERS: dict[type[ast.AST], Callable[[Any], list[Make]]] = {
    ast.Compare: _of_compare,
    ast.BoolOp: _of_bool_op,
    ast.UnaryOp: _of_unary_op,
    ast.BinOp: _of_bin_op,
    ast.Constant: _of_constant,
    ast.Call: _of_call,
    ast.Return: _of_return,
    ast.Subscript: _of_subscript,
    ast.comprehension: _of_comprehension,
}


def _is_condition(node: ast.AST, parents: dict[ast.AST, ast.AST]) -> bool:
    parent = parents.get(node)
    return isinstance(parent, (ast.If, ast.IfExp, ast.While)) and parent.test is node


def _is_str(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def _is_true(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and node.value is True


def _is_none(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _is_text(node: ast.AST, parents: dict[ast.AST, ast.AST]) -> bool:
    """True inside messages, annotations, decorators' arguments and ``strict=True``, none of which
    computes."""
    child = node
    while (parent := parents.get(child)) is not None:
        if _is_text_in(child, parent) or (isinstance(child, _WORDS) and child is not node):
            return True
        child = parent
    return isinstance(node, (*_WORDS, ast.ImportFrom, ast.Import))


def _is_text_in(child: ast.AST, parent: ast.AST) -> bool:
    if isinstance(child, ast.keyword):
        return child.arg == "strict" and _is_true(child.value)
    return (
        isinstance(parent, (*_WORDS, ast.arg))
        or (isinstance(parent, ast.AnnAssign) and parent.annotation is child)
        or getattr(parent, "returns", None) is child
        or child in getattr(parent, "decorator_list", ())
        or (isinstance(parent, ast.Assign) and _names_a_type(parent))
    )


def _names_a_type(node: ast.Assign) -> bool:
    """True for ``Pair = tuple[A, B] | None``."""
    value = node.value
    if isinstance(value, ast.BinOp) and isinstance(value.op, ast.BitOr):
        value = value.left
    base = value.value if isinstance(value, ast.Subscript) else None
    return isinstance(base, ast.Name) and (base.id[0].isupper() or base.id in ("tuple", "dict"))


def _statement(node: ast.AST, parents: dict[ast.AST, ast.AST]) -> ast.stmt:
    while not isinstance(node, ast.stmt):
        node = parents[node]
    return node


def _place(node: ast.AST, parents: dict[ast.AST, ast.AST]) -> str:
    names: list[str] = []
    while (parent := parents.get(node)) is not None:
        if isinstance(parent, (ast.FunctionDef, ast.ClassDef)):
            names.insert(0, parent.name)
        node = parent
    return ".".join(names)


def _parents(tree: ast.AST) -> dict[ast.AST, ast.AST]:
    return {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}


class _Swap(ast.NodeTransformer):
    """Puts another node in place of one."""

    def __init__(self, old: ast.AST, new: ast.AST) -> None:
        self._old, self._new = old, new

    def visit(self, node: ast.AST) -> ast.AST:
        if node is self._old:
            return ast.copy_location(self._new, node) if hasattr(node, "lineno") else self._new
        return self.generic_visit(node)
