"""Write the tables of docs/api.md: every endpoint, request field and flag, read from the code that serves them.

Usage: python tools/write_api.py [--check]

What stands outside of the marks is written by hand and kept.
"""

import argparse
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

import click
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from infergc.cli.serve import serve
from infergc.server.requests import types
from infergc.server.requests.fields import Only
from infergc.server.requests.messages import Message

TARGET = Path(__file__).parents[1] / "docs" / "api.md"
REQUESTS: Mapping[str, type[BaseModel]] = {
    "completions": types.CompletionRequest,
    "chat": types.ChatRequest,
    "tokenize": types.TokenizeRequest,
    "detokenize": types.DetokenizeRequest,
}
PARTS: Mapping[str, type[BaseModel]] = {
    "stream_options": types.StreamOptions,
    "cache_control": types.CacheControlField,
    "messages[…]": Message,
}


def standing(field: FieldInfo | None) -> str:
    """What becomes of a field: served, accepted without effect, or refused but for some values."""
    if field is None:
        return ""
    for rule in field.metadata:
        if isinstance(rule, Only):
            return f"refused; {rule.names} may be sent"
    return "changes nothing" if field.description else "**needed**" if field.is_required() else "served"


def fields(models: Mapping[str, type[BaseModel]]) -> str:
    """A row for each field, a column for each kind of request."""
    names = dict.fromkeys(name for model in models.values() for name in model.model_fields)
    rows = (
        [f"`{name}`", *(standing(model.model_fields.get(name)) for model in models.values())] for name in sorted(names)
    )
    return table(["field", *models], rows)


def flags(command: click.Command) -> str:
    """A row for each option of a command."""
    options = (option for option in command.params if isinstance(option, click.Option) and not option.hidden)
    rows = ([f"`{'`, `'.join(option.opts)}`", " ".join((option.help or "").split())] for option in options)
    return table(["flag", "what it does"], sorted(rows))


def table(head: list[str], rows: Iterable[list[str]]) -> str:
    """Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def render(page: str) -> str:
    """The page with its tables as they are now."""
    tables = {"fields": fields(REQUESTS), "parts": fields(PARTS), "flags": flags(serve)}
    for name, text in tables.items():
        before, mark, rest = page.partition(f"<!-- {name} -->\n")
        _, end, after = rest.partition(f"<!-- end of {name} -->")
        if not mark or not end:
            raise SystemExit(f"{TARGET.name}: the marks of {name} are missing")
        page = f"{before}{mark}{text}\n{end}{after}"
    return page


def main() -> int:
    """Write the page, or say with ``--check`` whether it is up to date."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="only compare; exit 1 if the page is out of date")
    page = TARGET.read_text()
    if not parser.parse_args().check:
        TARGET.write_text(render(page))
        return 0
    if page == render(page):
        return 0
    print("docs/api.md is out of date; run python tools/write_api.py")
    return 1


if __name__ == "__main__":
    sys.exit(main())
