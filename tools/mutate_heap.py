"""Mutation testing of the heap: one small mistake at a time, and do the quick tests notice?

``python tools/mutate_heap.py --sample 100`` draws mutants by a fixed seed, plants each in a copy of the sources, runs
the tests against the copy, and prints what became of it. Mistakes: a comparison turned, a constant off by one, a
condition negated, ``and`` for ``or``, an operator swapped, a statement left out. Nothing in the tree is changed.
"""

import argparse
import ast
import copy
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
HEAP = Path("src/infergc/heap")
QUICK = (
    "tests/laws/test_check.py",
    *sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("tests/pure/test_heap_*")),
)
_SECONDS = 180  # for the tests of one mutant: a mutant that hangs is noticed too
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
    """A mistake: its file and line, which node of the file's tree it changes, and what it is."""

    file: Path
    line: int
    node: int
    leaves_out: bool
    what: str

    def text(self) -> str:
        """The file with the mistake in it."""
        tree = ast.parse((ROOT / self.file).read_text())
        _mutate(list(ast.walk(tree))[self.node], leave_out=self.leaves_out)
        return ast.unparse(tree)


def mutants_of(file: Path) -> Iterator[Mutant]:
    """Every mutant of a file, one by one."""
    for at, node in enumerate(ast.walk(ast.parse((ROOT / file).read_text()))):
        for leave_out in (False, True):
            what = _mutate(copy.deepcopy(node), leave_out=leave_out)
            if what:
                yield Mutant(file, getattr(node, "lineno", 0), at, leave_out, what)


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


def survives(mutant: Mutant) -> bool:
    """Whether the quick tests pass in spite of it."""
    with tempfile.TemporaryDirectory() as folder:
        sources = Path(folder) / "src"
        shutil.copytree(ROOT / "src", sources, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        (Path(folder) / mutant.file).write_text(mutant.text())
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *QUICK]
        env = {**os.environ, "PYTHONPATH": str(sources), "PYTHONDONTWRITEBYTECODE": "1"}
        try:
            done = subprocess.run(  # noqa: S603 - this interpreter and our own tests
                command, cwd=ROOT, env=env, capture_output=True, check=False, timeout=_SECONDS
            )
        except subprocess.TimeoutExpired:
            return False
        return done.returncode == 0


def main() -> None:
    """Draw, run, report by file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sample", type=int, default=100, help="mutants to draw (default 100)")
    parser.add_argument("--seed", type=int, default=1, help="of the draw (default 1)")
    parser.add_argument("--files", nargs="*", default=[], help="names of files in the heap (default: all but __init__)")
    options = parser.parse_args()
    files = sorted(path.relative_to(ROOT) for path in (ROOT / HEAP).glob("*.py") if path.name != "__init__.py")
    chosen = [file for file in files if not options.files or file.name in options.files]
    every = [mutant for file in chosen for mutant in mutants_of(file)]
    draw = random.Random(options.seed).sample(every, min(options.sample, len(every)))  # noqa: S311 - no secret
    killed, survived = Counter[str](), Counter[str]()
    print(f"{len(draw)} of {len(every)} mutants", flush=True)
    for mutant in draw:
        alive = survives(mutant)
        (survived if alive else killed)[mutant.file.name] += 1
        print(f"{'SURVIVED' if alive else 'killed'}: {mutant.file.name}:{mutant.line}: {mutant.what}", flush=True)
    for name in sorted({*killed, *survived}):
        print(f"{name:16} {killed[name]:4} killed {survived[name]:4} survived")
    print(f"{killed.total()} of {len(draw)} killed")


if __name__ == "__main__":
    main()
