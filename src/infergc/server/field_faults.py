"""What pydantic found wrong with a body, or with a file that looks like one: at which field, and in words."""

from collections.abc import Mapping, Sequence
from typing import Any

from infergc.wording import fault, shown

Location = Sequence[str | int]

_UNKNOWN = "extra_forbidden"
_MISSING = "missing"
_BRANCHES = frozenset({"str", "int", "float", "bool"})


def fault_of(problems: Sequence[Mapping[str, Any]]) -> tuple[str, str]:
    """The field of the first problem and what is wrong with it; the others are often its echoes (a union's branches).

    A field that is missing may be there under another name: then that is said too.

    Args:
        problems: pydantic's ``ValidationError.errors()``.
    """
    problem = problems[0]
    place = problem["loc"]
    if problem["type"] == _UNKNOWN:
        return _unknown(place), "is not a known field"
    if problem["type"] == _MISSING:
        others = [_unknown(other["loc"][-1:]) for other in problems if _is_beside(other, place)]
        if others:
            return path(place), f"is required ({others[0]} is not a field)"
    return path(place), fault(problem)


def path(location: Location) -> str:
    """``("messages", 0, "role")`` as ``messages[0].role``; names of union branches are left out."""
    words = ""
    for part in location:
        if isinstance(part, int):
            words += f"[{part}]"
        elif part.isidentifier() and part not in _BRANCHES:
            words += f".{part}" if words else part
    return words


def _is_beside(problem: Mapping[str, Any], place: Location) -> bool:
    return problem["type"] == _UNKNOWN and tuple(problem["loc"][:-1]) == tuple(place[:-1])


def _unknown(location: Location) -> str:
    """The path of a field that nothing has; its name may be any text, which a message must not repeat as it is."""
    name = str(location[-1])
    around = path(location[:-1])
    name = name if name and name.isprintable() else shown(name)
    return f"{around}.{name}" if around else name
