"""Which tests execute which lines, and how long they take."""

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from coverage import Coverage, CoverageData

from mutation.trial import in_a_fork, run


@dataclass(frozen=True)
class Reach:
    """What tests do.

    Attributes:
        seconds: each takes, its parameters together: ``file::function`` → seconds.
        lines: file → line → the tests that execute it; no entry for lines that are executed outside of any.
    """

    seconds: dict[str, float]
    lines: dict[str, dict[int, list[str]]]

    def tests_of(self, file: Path, line: int) -> list[str]:
        """Those that execute a line, the quickest first: all, where it cannot be told."""
        found = self.lines.get(str(file), {}).get(line) or list(self.seconds)
        return sorted(found, key=lambda test: self.seconds.get(test, 0.0))


def measure(files: Sequence[str], root: Path, sources: Path) -> Reach:
    """Run test files once under coverage.

    Raises:
        RuntimeError: they do not pass as things are.
    """
    with TemporaryDirectory() as folder:
        told = Path(folder) / "reach.json"
        code = in_a_fork(lambda: _record(files, root, sources, told))
        if code != 0:
            raise RuntimeError(f"pytest {' '.join(files)} ends with {code} before there is any mistake")
        found = json.loads(told.read_text())
    lines = {file: {int(line): tests for line, tests in each.items()} for file, each in found["lines"].items()}
    return Reach(found["seconds"], lines)


class _Clock:
    """A pytest plugin: the time of every test."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Add a phase of a test to the whole."""
        self.seconds[report.nodeid.partition("[")[0]] += report.duration


def _record(files: Sequence[str], root: Path, sources: Path, told: Path) -> int:
    coverage = Coverage(data_file=None, config_file=False, source=[str(sources)])
    coverage.set_option("run:dynamic_context", "test_function")
    clock = _Clock()
    coverage.start()
    code = run(files, root, sources, [clock])
    coverage.stop()
    lines = _lines(coverage.get_data(), list(clock.seconds), sources)
    told.write_text(json.dumps({"seconds": clock.seconds, "lines": lines}))
    return code


def _lines(data: CoverageData, tests: list[str], sources: Path) -> dict[str, dict[int, list[str]]]:
    by_name = {f"{Path(file).stem}.{function}": f"{file}::{function}" for file, _, function in _parts(tests)}
    found: dict[str, dict[int, list[str]]] = {}
    for file in data.measured_files():
        each = found[str(Path(file).relative_to(sources))] = {}
        for line, contexts in data.contexts_by_lineno(file).items():
            names = [".".join(context.split(".")[-2:]) for context in contexts]
            if all(name in by_name for name in names):
                each[line] = [by_name[name] for name in names]
    return found


def _parts(tests: list[str]) -> list[tuple[str, str, str]]:
    return [test.partition("::") for test in tests]
