"""Pieces of grammars in llguidance's dialect of Lark, out of which each format makes the text of its calls."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

Schemas = Mapping[str, Mapping[str, Any]]  # name of a function → JSON schema of its arguments
Spell = Callable[[str], str]  # a mark as a grammar's symbol: a string, or one token where the model has one for it

_LAYOUT = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}  # as models are shown JSON


def literal(text: str) -> str:
    """This text and no other."""
    return json.dumps(text, ensure_ascii=False)


def grammar(start: str, rules: Iterable[str]) -> str:
    """A grammar of a start rule's right side and of rules."""
    return "\n".join((f"start: {start}", *rules))


def call_rules(schemas: Schemas, before: Callable[[str], Sequence[str]], after: Sequence[str]) -> list[str]:
    """Rules for ``call``: a call of any of the functions.

    Args:
        schemas: of the functions.
        before: symbols that stand before the arguments of the function of a name.
        after: symbols that stand after them.

    Raises:
        RecursionError: a schema is nested too deeply to be written down.
    """
    rules = [f"call: {' | '.join(f'call_{number}' for number in range(len(schemas)))}"]
    for number, (name, schema) in enumerate(schemas.items()):
        rules.append(f"call_{number}: {' '.join((*before(name), f'arguments_{number}', *after))}")
        rules.append(f"arguments_{number}: %json {_arguments(schema)}")
    return rules


def named_object(key: str) -> Callable[[str], Sequence[str]]:
    """What stands before the arguments in ``{"name": …, <key>: …}``."""
    return lambda name: (literal(f'{{"name": {literal(name)}, "{key}": '),)


def repeated(symbol: str, between: str, *, several: bool) -> str:
    """One, or also several with something between them."""
    return f"{symbol} ({between} {symbol})*" if several else symbol


def _arguments(schema: Mapping[str, Any]) -> str:
    return json.dumps({**schema, "type": "object", "x-guidance": _LAYOUT})
