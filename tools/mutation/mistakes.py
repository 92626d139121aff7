"""Small mistakes in a file of Python, one at a time."""

import ast
import copy
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_TURNED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
_SWAPPED: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.FloorDiv, ast.FloorDiv: ast.Mult, ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd, ast.LShift: ast.RShift, ast.RShift: ast.LShift,
}  # fmt: skip


@dataclass(frozen=True)
class Mutant:
    """A mistake.

    Attributes:
        file: where it is.
        line: which line it changes.
        node: which node of the file's tree it changes, in the order of ``ast.walk``.
        leaves_out: whether it leaves the last statement of a function out.
        what: it is, in words.
    """

    file: Path
    line: int
    node: int
    leaves_out: bool
    what: str

    def text(self) -> str:
        """The file with the mistake in it."""
        tree = ast.parse(self.file.read_text())
        _mutate(list(ast.walk(tree))[self.node], leave_out=self.leaves_out)
        return ast.unparse(tree)


def mutants_of(file: Path) -> Iterator[Mutant]:
    """Every mutant of a file, one by one."""
    for at, node in enumerate(ast.walk(ast.parse(file.read_text()))):
        for leave_out in (False, True):
            what = _mutate(copy.deepcopy(node), leave_out=leave_out)
            if what:
                yield Mutant(file, _line(node), at, leave_out, what)


def _line(node: ast.AST) -> int:
    """Of what changes; of an assignment with an operator, or a condition, that is where the statement begins."""
    changed = node.body[-1] if isinstance(node, ast.FunctionDef) else node
    return int(getattr(changed, "lineno", 0))


def _mutate(node: ast.AST, *, leave_out: bool) -> str:
    """Change a node in place; what was done, "" if there is no such mistake of this kind of node."""
    if leave_out:
        return _leave_out(node) if isinstance(node, ast.FunctionDef) else ""
    what = ""
    match node:
        case ast.Compare(ops=[one]) if type(one) in _TURNED:
            node.ops, what = [_TURNED[type(one)]()], f"{type(one).__name__} turned"
        case ast.Constant(value=bool() as value):
            node.value, what = not value, f"{value} is {not value}"
        case ast.Constant(value=int() as value):
            node.value, what = value + 1, f"{value} is {value + 1}"
        case ast.If():
            node.test, what = ast.UnaryOp(ast.Not(), node.test), "condition negated"
        case ast.BoolOp():
            node.op, what = ast.Or() if isinstance(node.op, ast.And) else ast.And(), "and for or, or for and"
        case ast.BinOp(op=one) | ast.AugAssign(op=one) if type(one) in _SWAPPED:
            node.op, what = _SWAPPED[type(one)](), f"{type(one).__name__} swapped"
    return what


def _leave_out(function: ast.FunctionDef) -> str:
    """Leave out the last statement of a function that gives nothing back."""
    last = function.body[-1]
    if isinstance(last, ast.Return | ast.Raise) or function.name == "__init__":
        return ""
    told = ast.unparse(last).splitlines()[0]
    function.body[-1] = ast.Pass()
    return f"left out: {told}"
