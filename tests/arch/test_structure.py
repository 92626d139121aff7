"""What the tree must look like: sizes, the map, the torch line, declared dependencies."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "infergc"
MOST_FILE_LINES = 400
MOST_FUNCTION_LINES = 40
# Files and functions over the limits, each with its reason. This list only shrinks.
LONG_FILES: dict[str, str] = {}
LONG_FUNCTIONS: dict[str, str] = {}

TENSOR_SIDE = ("infergc.worker", "infergc.models", "infergc.kernels")
CORE = ("heap", "sched", "policies")
BY_NAME = {"importlib", "runpy", "pkgutil", "__import__"}  # ways to import what no import names
NOT_REPLAYABLE = {"time", "random", "secrets", "uuid", "datetime", "os", "threading"}


def sources() -> list[Path]:
    return sorted(SOURCE.rglob("*.py"))


def modules() -> list[str]:
    names = (".".join(path.relative_to(SOURCE.parent).with_suffix("").parts) for path in sources())
    return [name.removesuffix(".__init__") for name in names]


def imports(code: str) -> set[str]:
    """Names of all that code imports, whatever the form; ``__import__`` for a call of that."""
    found = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Name) and node.id == "__import__":
            found.add(node.id)
    return found


def ours(name: str) -> str:
    """The module of this package in which an imported name is found; "" if in none."""
    known = set(modules())
    while name and name not in known:
        name = name.rpartition(".")[0]
    return name


def test_files_are_short():
    long = {str(path.relative_to(SOURCE)) for path in sources() if len(path.read_text().splitlines()) > MOST_FILE_LINES}
    assert long == set(LONG_FILES)


def test_functions_are_short():
    long = set()
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or 0) - node.body[0].lineno + 1
                if ast.get_docstring(node):
                    lines -= (node.body[0].end_lineno or 0) - node.body[0].lineno + 1
                if lines > MOST_FUNCTION_LINES:
                    long.add(f"{path.relative_to(SOURCE)}:{node.name}")
    assert long == set(LONG_FUNCTIONS)


def test_the_map_shows_the_tree():
    check = subprocess.run(
        [sys.executable, ROOT / "tools" / "write_map.py", "--check"], capture_output=True, text=True, check=False
    )
    assert check.returncode == 0, check.stdout
    assert "|  |" not in (ROOT / "docs" / "map.md").read_text(), "a file does not say what it holds"


def test_nothing_outside_the_tensor_side_loads_torch():
    """Import every such module in a fresh process, one after the other, and look for torch after each."""
    names = [name for name in modules() if not name.startswith(TENSOR_SIDE) and not name.endswith("__main__")]
    assert len(names) > 50
    script = (
        "import importlib, sys\n"
        f"for name in {names!r}:\n"
        "    importlib.import_module(name)\n"
        "    heavy = {'torch', 'transformers'} & set(sys.modules)\n"
        "    assert not heavy, f'{name} loads {heavy}'\n"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("layer", CORE)
def test_the_core_reads_no_clock_and_draws_no_numbers(layer):
    for path in (SOURCE / layer).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            assert not NOT_REPLAYABLE & {name.partition(".")[0] for name in names}, path
            is_call = isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
            assert not (is_call and node.func.id in {"id", "hash"}), f"{path}: identity and hash order do not replay"
            assert not (isinstance(node, ast.Attribute) and node.attr == "random"), path


def test_the_simulator_schedules_and_allocates_nothing_itself():
    """Of scheduler, heap and policies it knows plain data: plans, spans of prompts, groups, what a dump counts."""
    plain = {
        "infergc.sched.plan",
        "infergc.sched.prompt_spans",
        "infergc.heap.groups",
        "infergc.heap.moves",
        "infergc.heap.jobs",
        "infergc.heap.dump",
        "infergc.heap.errors",
    }
    imported = {name for path in (SOURCE / "sim").rglob("*.py") for name in imports(path.read_text())}
    by_name = {name for name in imported if name.split(".")[0] in BY_NAME}
    assert not by_name, "what is imported by its name cannot be seen here"
    found = {ours(name) for name in imported}
    assert "infergc" not in found, "all of the package can be reached from there"
    assert {name for name in found if name.split(".")[1:2] and name.split(".")[1] in CORE} == plain


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("from infergc.heap.heap import Heap", "infergc.heap.heap.Heap"),
        ("from infergc.heap import heap", "infergc.heap.heap"),
        ("from infergc import heap", "infergc.heap"),
        ("import infergc.heap.heap", "infergc.heap.heap"),
        ("import infergc.sched.scheduler as plans", "infergc.sched.scheduler"),
        ("def f():\n    from infergc.policies import retention", "infergc.policies.retention"),
        ("import importlib", "importlib"),
        ("from importlib import import_module as load", "importlib.import_module"),
        ("heap = __import__('infergc.heap.heap')", "__import__"),
    ],
)
def test_no_form_of_an_import_goes_unseen(line, name):
    assert name in imports(line)


def test_every_dependency_has_its_reason():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = project["dependencies"] + [line for extra in project["optional-dependencies"].values() for line in extra]
    names = {re.split(r"[<>=~\[ ]", line)[0] for line in declared if not line.startswith("infergc[")}
    page = (ROOT / "docs" / "dependencies.md").read_text()
    explained = set(re.findall(r"^\| ([a-z0-9-]+) \| (?!for \|)", page, re.MULTILINE))
    assert explained - {"package"} == names


def test_a_setup_is_pinned_and_the_package_is_free():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert "torch>=2.9" in project["dependencies"]
    # a release of anybody else's breaks no build of ours
    pins = set(re.findall(r"^([\w.-]+)==", (ROOT / "constraints.txt").read_text(), re.MULTILINE))
    wanted = project["dependencies"] + project["optional-dependencies"]["dev"]
    named = {re.split(r"[<>=]", line)[0] for line in wanted if not line.startswith("infergc[")}
    assert named <= {pin.replace("_", "-").lower() for pin in pins}
    assert "torch==2.13.0" in (ROOT / "constraints.txt").read_text().split()


def test_links_between_docs_lead_somewhere():
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} points to {target}"


def test_files_that_docs_name_exist():
    pages = [*(ROOT / "docs").glob("*.md"), ROOT / "README.md", ROOT / "benchmarks" / "RESULTS.md"]
    path = re.compile(r"(?<![\w/.])((?:tests|benchmarks|tools|src|dashboards)/[\w./-]+?\.(?:py|md|json|cpp))")
    named = {(page.name, name) for page in pages for name in path.findall(page.read_text())}
    assert len(named) > 50
    assert not [(page, name) for page, name in sorted(named) if not (ROOT / name).is_file()]


def test_the_laws_page_names_what_exists():
    code = "\n".join(path.read_text() for path in sources())
    page = (ROOT / "docs" / "laws.md").read_text()
    for owner, name in re.findall(r"`([A-Z]\w+)\.(\w+)`", page):
        assert f"class {owner}" in code, owner
        assert f"def {name}(" in code, f"{owner}.{name}"
    for name in re.findall(r"`((?:heap|sched|engine|policies)/[\w/.]+\.py)`", page):
        assert (SOURCE / name).exists(), name


def test_the_tables_of_the_api_are_those_of_the_code():
    check = subprocess.run(
        [sys.executable, ROOT / "tools" / "write_api.py", "--check"], capture_output=True, text=True, check=False
    )
    assert check.returncode == 0, check.stdout
