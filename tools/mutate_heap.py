"""Mutation testing of the heap: one small mistake at a time, and do the quick tests notice?

``python tools/mutate_heap.py --sample 200`` draws mutants by a fixed seed, plants each in a copy of the sources, runs
the tests against the copy, and prints what became of it. Mistakes: a comparison turned, a constant off by one, a
condition negated, ``and`` for ``or``, an operator swapped, a statement left out. Nothing in the tree is changed.

A mutant meets only the tests that execute its line, by a run under coverage beforehand, the quickest first, and the
first failure ends its trial. What survives these meets random walks over the heap under its laws.
"""

import argparse
import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from mutation.mistakes import Mutant, mutants_of
from mutation.reach import Reach, measure
from mutation.trial import passes

ROOT = Path(__file__).parents[1]
SOURCES = ROOT / "src"
HEAP = SOURCES / "infergc" / "heap"
QUICK = (
    "tests/laws/test_check.py",
    *sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("tests/pure/test_heap_*.py")),
)
_WALK = "tests/laws/test_state_machine.py::test_laws_hold_on_long_walks"
WALKS = ("tests/golden", f"{_WALK}[full-sliding-8]", f"{_WALK}[narrow-8]")
_FATES = ("killed", "by walks", "survived")
_SECONDS = 120.0  # of a trial beside the time that its tests take: a mutant that hangs is noticed too
_SLOWER = 4.0  # a machine may become so much slower meanwhile


def fate_of(mutant: Mutant, reach: Reach, sources: Path) -> str:
    """What becomes of a mutant in a copy of the sources, which is as it was afterwards."""
    file = mutant.file.relative_to(SOURCES)
    tests = reach.tests_of(file, mutant.line)
    limit = _SECONDS + _SLOWER * sum(reach.seconds.get(test, 0.0) for test in tests)
    with _planted(mutant, sources / file):
        if not passes(tests, ROOT, sources, limit):
            return "killed"
        return "survived" if passes(WALKS, ROOT, sources, limit + _SECONDS) else "by walks"


@contextmanager
def _planted(mutant: Mutant, copy: Path) -> Iterator[None]:
    copy.write_text(mutant.text())
    try:
        yield
    finally:
        shutil.copy2(mutant.file, copy)


def draw(names: Sequence[str], sample: int, seed: int) -> tuple[list[Mutant], int]:
    """A sample of the mutants of these files, and how many there are; the longer draw begins with the shorter."""
    files = sorted(path for path in HEAP.glob("*.py") if path.name != "__init__.py")
    every = [mutant for file in files if not names or file.name in names for mutant in mutants_of(file)]
    random.Random(seed).shuffle(every)  # noqa: S311 - no secret
    return every[:sample], len(every)


def report(fates: Counter[tuple[str, str]]) -> None:
    """A table by file."""
    print(f"{'':18}" + "".join(f"{fate:>10}" for fate in _FATES))
    for name in sorted({file for file, _ in fates}):
        print(f"{name:18}" + "".join(f"{fates[name, fate]:10}" for fate in _FATES))
    totals = [sum(times for (_, each), times in fates.items() if each == fate) for fate in _FATES]
    print(f"{'together':18}" + "".join(f"{total:10}" for total in totals))


def main() -> None:
    """Draw, run, report by file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sample", type=int, default=200, help="mutants to draw (default 200)")
    parser.add_argument("--seed", type=int, default=1, help="of the draw (default 1)")
    parser.add_argument("--files", nargs="*", default=[], help="names of files in the heap (default: all but __init__)")
    options = parser.parse_args()
    chosen, count = draw(options.files, options.sample, options.seed)
    fates = Counter[tuple[str, str]]()
    with tempfile.TemporaryDirectory() as folder:
        sources = Path(folder) / "src"
        shutil.copytree(SOURCES, sources, ignore=shutil.ignore_patterns("*.egg-info"))
        reach = measure(QUICK, ROOT, sources)
        print(f"{len(chosen)} of {count} mutants; the tests take {sum(reach.seconds.values()):.0f} s", flush=True)
        try:
            for mutant in chosen:
                fate = fate_of(mutant, reach, sources)
                fates[mutant.file.name, fate] += 1
                print(f"{fate}: {mutant.file.name}:{mutant.line}: {mutant.what}", flush=True)
        except KeyboardInterrupt:
            print(f"stopped after {fates.total()} of them", flush=True)
    report(fates)


if __name__ == "__main__":
    main()
