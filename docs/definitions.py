"""Definitions as written in the source: signature, documentation, and the public members of a class.

They are read from the syntax tree, so that the manual shows each signature as it was written, and also the string under
an attribute, which is not available at run time. This module knows nothing about Markdown.
"""

from __future__ import annotations

import ast
import importlib.util
import inspect
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

SHOWN_DECORATORS = {"property", "classmethod", "staticmethod"}

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, slots=True)
class Definition:
    """One name that a module defines; ``module`` is the module with its source."""

    name: str
    module: str
    signature: str
    doc: str
    members: tuple[Definition, ...] = ()


def exported(package: str) -> list[Definition]:
    """Return the definitions that ``__all__`` of a package names, in its order."""
    tree, _ = _source(package)
    names = next(part for part, _ in _with_strings(tree.body) if _name(part) == "__all__")
    assert isinstance(names, ast.Assign)
    return [definition(package, name) for name in ast.literal_eval(names.value)]


def definition(module: str, name: str) -> Definition:
    """Return the definition of ``name`` in ``module`` or in its origin. Raises ``KeyError`` if there is none."""
    tree, source = _source(module)
    for node in reversed(tree.body):  # the last one is the one without @overload
        if isinstance(node, ast.ClassDef | Function) and node.name == name:
            return _Reader(module, source).named(node)
    for part, doc in _with_strings(tree.body):
        if isinstance(part, ast.Assign | ast.AnnAssign) and part.value and _name(part) == name:
            return Definition(name, module, f"{name} = {_value(part.value)}", doc)
    for part in ast.walk(tree):  # also imports under ``if TYPE_CHECKING``, where lazy names come from
        for alias in part.names if isinstance(part, ast.ImportFrom) else ():
            if (alias.asname or alias.name) == name:
                found = definition(str(part.module), alias.name)
                return replace(found, name=name, signature=found.signature.replace(alias.name, name, 1))
    raise KeyError(f"{module} does not define {name}")


@cache
def _source(module: str) -> tuple[ast.Module, str]:
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise KeyError(f"{module} has no source")
    text = Path(spec.origin).read_text(encoding="utf-8")
    return ast.parse(text), text


def _with_strings(body: list[ast.stmt]) -> Iterator[tuple[ast.stmt, str]]:
    """Yield each statement with the string under it, or ""."""
    for part, below in zip(body, [*body[1:], None], strict=True):
        text = below.value.value if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant) else ""
        yield part, inspect.cleandoc(text) if isinstance(text, str) else ""


def _name(part: ast.stmt) -> str:
    """Return the name or attribute of ``self`` that a statement assigns or annotates; "" for other statements."""
    match part:
        case ast.Assign(targets=[target]) | ast.AnnAssign(target=target):
            return getattr(target, "id", getattr(target, "attr", ""))
    return ""


def _value(value: ast.expr) -> str:
    """Return a value as source text; of ``Annotated``, only the type itself."""
    match value:
        case ast.Subscript(value=ast.Name(id="Annotated"), slice=ast.Tuple(elts=[meant, *_])):
            return ast.unparse(meant)
    return ast.unparse(value)


@dataclass(frozen=True, slots=True)
class _Reader:
    module: str
    source: str

    def named(self, node: ast.ClassDef | Function) -> Definition:
        members = tuple(self._members(node)) if isinstance(node, ast.ClassDef) else ()
        return Definition(node.name, self.module, self._signature(node), ast.get_docstring(node) or "", members)

    def _signature(self, node: ast.ClassDef | Function) -> str:
        """Return the lines before the body, with those of the constructor for a class that has one of its own."""
        shown = [f"@{ast.unparse(each)}\n" for each in node.decorator_list if ast.unparse(each) in SHOWN_DECORATORS]
        text = "".join(shown) + self._head(node)
        for part in node.body:
            if isinstance(node, ast.ClassDef) and isinstance(part, Function) and part.name == "__init__":
                text += "\n" + textwrap.indent(self._head(part), "    ")
        return text

    def _head(self, node: ast.ClassDef | Function) -> str:
        lines, first = self.source.splitlines()[node.lineno - 1 :], node.body[0]
        if first.lineno == node.lineno:
            head = lines[0].encode()[: first.col_offset].decode()
        else:
            head = textwrap.dedent("\n".join(lines[: first.lineno - node.lineno]))
        return head.strip().removesuffix(":")

    def _members(self, node: ast.ClassDef) -> Iterator[Definition]:
        """Yield public methods and attributes, and the attributes that the constructor sets and documents."""
        for part, doc in _with_strings(node.body):
            if isinstance(part, Function) and not part.name.startswith("_"):
                yield self.named(part)
            elif isinstance(part, Function) and part.name == "__init__":
                yield from (
                    made for each, doc in _with_strings(part.body) if doc for made in self._attribute(each, doc)
                )
            else:
                yield from self._attribute(part, doc)

    def _attribute(self, part: ast.stmt, doc: str) -> Iterator[Definition]:
        name = _name(part)
        if name and not name.startswith("_") and name != "model_config":
            text = ast.get_source_segment(self.source, part) or ""
            yield Definition(name, self.module, text.removeprefix("self."), doc)
