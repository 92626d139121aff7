"""Write docs/map.md: every source file with the first line of its docstring.

Usage: python tools/write_map.py [--check]
"""

import argparse
import ast
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "infergc"
TARGET = ROOT / "docs" / "map.md"
ENDINGS = {".py", ".cpp", ".hpp"}

HEADER = """# Map of the tree

Written by `python tools/write_map.py` from each file's first line; a test holds it against the tree.
Folders stand in the order of the layers: each imports only what stands below it.
"""

LAYERS = (
    "", "cli", "bench", "evaluation", "planner", "server", "llm", "client", "text", "worker", "sim", "models",
    "kernels", "engine", "policies", "sched", "heap", "hf",
)  # fmt: skip


def first_line(path: Path) -> str:
    """The first line of a Python docstring, or of a C++ comment at the top."""
    text = path.read_text()
    if path.suffix == ".py":
        return (ast.get_docstring(ast.parse(text)) or "").partition("\n")[0]
    return text.partition("\n")[0].removeprefix("//").strip()


def files_of(layer: str) -> list[Path]:
    """Source files of a layer; of the package itself for the empty name."""
    found = SOURCE.glob("*") if not layer else (SOURCE / layer).rglob("*")
    return sorted(path for path in found if path.suffix in ENDINGS)


def render() -> str:
    """The whole page."""
    folders = {path.parent.name for path in SOURCE.glob("*/__init__.py")}
    assert folders == {*filter(None, LAYERS)}, f"LAYERS names others than there are: {folders ^ {*LAYERS}}"
    parts = [HEADER]
    for layer in LAYERS:
        rows = [f"| `{path.relative_to(SOURCE)}` | {first_line(path)} |" for path in files_of(layer)]
        parts.append("\n".join([f"## {layer or 'infergc'}\n", "| file | holds |", "|---|---|", *rows, ""]))
    return "\n".join(parts)


def main() -> int:
    """Write the page, or say with ``--check`` whether it is up to date."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="only compare; exit 1 if the page is out of date")
    if parser.parse_args().check:
        if TARGET.read_text() == render():
            return 0
        print("docs/map.md is out of date; run python tools/write_map.py")
        return 1
    TARGET.write_text(render())
    return 0


if __name__ == "__main__":
    sys.exit(main())
