"""Mutants of a module: its source with one small fault planted in it.

Each fault is one that a person might make: a comparison that is off by one or the wrong way round, a condition turned
over, a constant that is one more, a statement left out. Docstrings, annotations, logging of facts and type-checking
blocks stay as they are. This module reads and writes text only.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import Final

_SWAPPED: Final[dict[type[ast.cmpop] | type[ast.operator] | type[ast.boolop], str]] = {
    ast.Lt: "<=",
    ast.LtE: "<",
    ast.Gt: ">=",
    ast.GtE: ">",
    ast.Eq: "!=",
    ast.NotEq: "==",
    ast.Is: "is not",
    ast.IsNot: "is",
    ast.In: "not in",
    ast.NotIn: "in",
    ast.Add: "-",
    ast.Sub: "+",
    ast.Mult: "+",
    ast.FloorDiv: "*",
    ast.Div: "*",
    ast.And: "or",
    ast.Or: "and",
}


@dataclass(frozen=True, slots=True)
class Mutant:
    """One fault: ``old`` at ``start`` (an offset into the source's UTF-8) becomes ``new``."""

    path: str
    """The module's path in the repository."""
    where: str
    """The qualified name of the function or class, or "module"."""
    line: int
    start: int
    old: str
    new: str
    text: str
    """The line as it stands, without indentation."""

    @property
    def name(self) -> str:
        """A name that stays the same while the line does: it stands in the list of survivors."""
        return f"{self.path}: {self.where}: {self.old} → {self.new} in {self.text}"

    def apply(self, source: str) -> str:
        """Return the source with the fault planted."""
        octets = source.encode()
        end = self.start + len(self.old.encode())
        assert octets[self.start : end].decode() == self.old
        return (octets[: self.start] + self.new.encode() + octets[end:]).decode()


def mutants_of(path: str, source: str) -> list[Mutant]:
    """Return all mutants of a module, in the order of its lines."""
    finder = _Finder(path, source)
    finder.visit(ast.parse(source))
    return sorted(finder.found, key=lambda mutant: (mutant.start, mutant.new))


class _Finder(ast.NodeVisitor):
    """Walks over a module and notes the faults that can be planted in each node."""

    def __init__(self, path: str, source: str) -> None:
        self.found: list[Mutant] = []
        self._path = path
        self._octets = source.encode()
        self._lines = source.splitlines()
        self._starts = [0]
        for line in self._octets.split(b"\n"):
            self._starts.append(self._starts[-1] + len(line) + 1)
        self._where: list[str] = []

    # What has a name of its own, and what stays as it is.

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self._enter(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        self._enter(node)

    def _enter(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self._where.append(node.name)
        for default in (*node.args.defaults, *node.args.kw_defaults):
            if default is not None:
                self.visit(default)
        self._visit_body(node.body)
        self._where.pop()

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._where.append(node.name)
        self._visit_body(node.body)
        self._where.pop()

    def _visit_body(self, body: list[ast.stmt]) -> None:
        for statement in body:
            self.visit(statement)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.visit(node.value)

    def visit_Import(self, node: ast.Import) -> None:
        pass

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        pass

    def visit_Assert(self, node: ast.Assert) -> None:
        pass  # it is for the reader and the type checker

    # Faults.

    def visit_If(self, node: ast.If) -> None:
        if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            return
        self._negate(node.test)
        self.generic_visit(node)

    def visit_While(self, node: ast.While) -> None:
        self.generic_visit(node)  # turned over, most would never end: a fault that everybody notices

    def visit_IfExp(self, node: ast.IfExp) -> None:
        self._negate(node.test)
        self.generic_visit(node)

    def _negate(self, test: ast.expr) -> None:
        if not isinstance(test, ast.Compare):  # whose operator is swapped
            self._replace(test, f"(not ({self._text(test)}))")

    def visit_Compare(self, node: ast.Compare) -> None:
        left: ast.expr = node.left
        for operator, right in zip(node.ops, node.comparators, strict=True):
            self._swap(operator, left, right)
            left = right
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        literal = (ast.JoinedStr, ast.Tuple, ast.List)
        texts = (isinstance(part, ast.Constant) and isinstance(part.value, (str, bytes)) for part in ast.walk(node))
        if not isinstance(node.left, literal) and not isinstance(node.right, literal) and not any(texts):
            self._swap(node.op, node.left, node.right)
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        for left, right in zip(node.values, node.values[1:], strict=False):
            self._swap(node.op, left, right)
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, bool):
            self._replace(node, str(not node.value))
        elif isinstance(node.value, (int, float)):
            self._replace(node, str(node.value + 1))

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        pass  # positions inside are unreliable before Python 3.12

    def visit_Return(self, node: ast.Return) -> None:
        if node.value is not None and not (isinstance(node.value, ast.Constant) and node.value.value is None):
            self._replace(node.value, "None")
            self.visit(node.value)

    def visit_Expr(self, node: ast.Expr) -> None:
        if isinstance(node.value, ast.Constant):
            return  # a docstring
        self._replace(node, "pass")
        self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> None:
        if all(isinstance(target, (ast.Attribute, ast.Subscript)) for target in node.targets):
            self._replace(node, "pass")
        self.generic_visit(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        self._replace(node, "pass")
        self.generic_visit(node)

    def visit_Delete(self, node: ast.Delete) -> None:
        self._replace(node, "pass")

    def visit_Break(self, node: ast.Break) -> None:
        self._replace(node, "pass")

    def visit_Continue(self, node: ast.Continue) -> None:
        self._replace(node, "break")

    # Text and places.

    def _swap(self, operator: ast.cmpop | ast.operator | ast.boolop, left: ast.expr, right: ast.expr) -> None:
        new = _SWAPPED.get(type(operator))
        if new is None:
            return
        start, end = self._end(left), self._start(right)
        between = self._octets[start:end].decode()
        old = between.strip(" ()\n\\")
        if old and "#" not in between and "\n" not in old:
            self._note(left.end_lineno or left.lineno, start + len(between[: between.index(old)].encode()), old, new)

    def _replace(self, node: ast.expr | ast.stmt, new: str) -> None:
        self._note(node.lineno, self._start(node), self._text(node), new)

    def _note(self, line: int, start: int, old: str, new: str) -> None:
        where = ".".join(self._where) or "module"
        self.found.append(Mutant(self._path, where, line, start, old, new, self._lines[line - 1].strip()))

    def _text(self, node: ast.expr | ast.stmt) -> str:
        return self._octets[self._start(node) : self._end(node)].decode()

    def _start(self, node: ast.expr | ast.stmt) -> int:
        return self._starts[node.lineno - 1] + node.col_offset

    def _end(self, node: ast.expr | ast.stmt) -> int:
        assert node.end_lineno is not None and node.end_col_offset is not None
        return self._starts[node.end_lineno - 1] + node.end_col_offset


def is_valid(mutant: Mutant, source: str) -> bool:
    """Return True if Python can read the source with this fault."""
    try:
        ast.parse(mutant.apply(source))
    except SyntaxError:
        return False
    return True
