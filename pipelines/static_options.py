"""Options of a configuration class, read from its source: ``--help`` imports no stage.

A stage's module imports torch, MLflow or KFP, which takes seconds. The names, types, defaults and
texts that ``--help`` shows stand in the class statement, so they are read from its syntax tree, as
documentation tools do. What cannot be read that way (a default that a function computes) raises
:class:`Unreadable`, and the class is imported instead.
"""

from __future__ import annotations

import ast
import importlib.util
import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from foundation.command_line import attribute_texts
from pipelines.options import Option

_OPERATORS: Mapping[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
    ast.LShift: operator.lshift,
}
_TYPES: Mapping[str, type] = {"int": int, "float": float, "bool": bool, "str": str, "Path": Path}


class Unreadable(Exception):
    """A class that has to be imported to be known."""


@dataclass(frozen=True)
class _Defined:
    """What a name of a module stands for.

    Attributes:
        node: a class statement, or the value that was assigned.
        module: where it stands.
    """

    node: ast.AST
    module: _Module


class _Module:
    """The names of a module and their definitions."""

    def __init__(self, name: str) -> None:
        top, *parts = name.split(".")
        spec = importlib.util.find_spec(top)
        if spec is None or not (spec.submodule_search_locations or not parts):
            raise Unreadable(name)
        folders = [Path(one) for one in spec.submodule_search_locations or ()]
        files = (
            [Path(spec.origin)]
            if not folders and spec.origin
            else [
                file
                for folder in folders
                for base in [folder.joinpath(*parts)]
                for file in (base.with_suffix(".py") if parts else base, base / "__init__.py")
            ]
        )
        found = next((file for file in files if file.is_file()), None)
        if found is None:
            raise Unreadable(name)
        self._nodes: dict[str, ast.AST] = {}
        self._imported: dict[str, tuple[str, str]] = {}
        for node in ast.parse(found.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef):
                self._nodes[node.name] = node
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                for alias in node.names:
                    self._imported[alias.asname or alias.name] = (node.module, alias.name)
            elif isinstance(node, ast.Assign):
                for target in node.targets:
                    if isinstance(target, ast.Name):
                        self._nodes[target.id] = node.value
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                self._nodes[node.target.id] = node.value or node

    def find(self, name: str) -> _Defined:
        """What a name stands for, followed through imports."""
        if name in self._nodes:
            return _Defined(self._nodes[name], self)
        if name in self._imported:
            module, original = self._imported[name]
            return _module(module).find(original)
        raise Unreadable(name)


_module = cache(_Module)


def read_options(place: str) -> tuple[Option, ...]:
    """Options of a configuration class, as ``pipelines.options.options_of`` has them.

    Args:
        place: "module:Class".

    Raises:
        Unreadable: the class has to be imported.
    """
    module, _, name = place.partition(":")
    defined = _module(module).find(name)
    texts: dict[str, str] = {}
    fields: dict[str, tuple[ast.AnnAssign, _Module]] = {}
    for statement, home in _bases_first(defined):
        texts |= attribute_texts(ast.get_docstring(statement, clean=False) or "")
        for line in statement.body:
            if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name):
                fields[line.target.id] = (line, home)
    return tuple(
        Option(name, *_annotated(line.annotation, home), _default(line, home), texts.get(name, ""))
        for name, (line, home) in fields.items()
    )


def _bases_first(defined: _Defined) -> Iterator[tuple[ast.ClassDef, _Module]]:
    """A class statement and those of its bases, in the order in which dataclasses read fields."""
    node = defined.node
    if not isinstance(node, ast.ClassDef):
        raise Unreadable(ast.dump(node)[:80])
    for base in reversed(node.bases):
        if not isinstance(base, ast.Name):
            raise Unreadable(ast.unparse(base))
        yield from _bases_first(defined.module.find(base.id))
    yield node, defined.module


def _annotated(node: ast.AST, home: _Module) -> tuple[Any, str]:
    """The type of a field and the environment variable that sets it, if there is one."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        sides = [side for side in (node.left, node.right) if not _is_none(side)]
        if len(sides) == 1:
            annotation, variable = _annotated(sides[0], home)
            return annotation | None if isinstance(annotation, type) else annotation, variable
    if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name):
        parts = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        if node.value.id == "Literal":
            return Literal[tuple(_value(part, home) for part in parts)], ""
        if node.value.id == "tuple":
            return tuple[Any, ...], ""
        if node.value.id == "Annotated":
            annotation, _ = _annotated(parts[0], home)
            return annotation, next(filter(None, map(_variable, parts[1:])), "")
    if isinstance(node, ast.Name):
        if node.id in _TYPES:
            return _TYPES[node.id], ""
        alias = home.find(node.id)
        if not isinstance(alias.node, ast.ClassDef):
            return _annotated(alias.node, alias.module)
    raise Unreadable(ast.unparse(node))


def _variable(node: ast.AST) -> str:
    match node:
        case ast.Call(func=ast.Name(id="FromEnvironment"), args=[ast.Constant(value=name)]):
            return str(name)
    return ""


def _is_none(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _default(line: ast.AnnAssign, home: _Module) -> Any:
    if line.value is None:
        raise Unreadable(ast.unparse(line))
    return _value(line.value, home)


def _value(node: ast.AST, home: _Module) -> Any:
    """The value of an expression of constants, their names and their sums."""
    match node:
        case ast.Constant(value=value):
            return value
        case ast.Tuple(elts=parts) | ast.List(elts=parts):
            return tuple(_value(part, home) for part in parts)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_value(operand, home)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            return _OPERATORS[type(op)](_value(left, home), _value(right, home))
        case ast.Subscript(value=value, slice=index):
            return _value(value, home)[_value(index, home)]
        case ast.Name(id=name):
            found = home.find(name)
            return _value(found.node, found.module)
        case ast.Attribute(value=ast.Name(id=name), attr=attribute):
            return _attribute(home.find(name), attribute)
        case ast.Call(func=ast.Name(id="Path"), args=[path]):
            return Path(_value(path, home))
        case ast.Call(func=ast.Name(id="field"), args=[], keywords=[ast.keyword(arg="default")]):
            return _value(node.keywords[0].value, home)
    raise Unreadable(ast.unparse(node))


def _attribute(owner: _Defined, name: str) -> Any:
    """A field's value: of a class its default, of an object its call's argument, or the default."""
    node = owner.node
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        for keyword in node.keywords:
            if keyword.arg == name:
                return _value(keyword.value, owner.module)
        if node.args:
            raise Unreadable(ast.unparse(node))
        owner = owner.module.find(node.func.id)
    lines = [
        (line, home)
        for statement, home in _bases_first(owner)
        for line in statement.body
        if isinstance(line, ast.AnnAssign)
        and isinstance(line.target, ast.Name)
        and line.target.id == name
    ]
    if not lines:
        raise Unreadable(name)
    return _default(*lines[-1])
