"""What holds an object, in a line: the way from it to something with a name, as the collector sees references."""

import gc
from collections import deque
from collections.abc import Collection, Iterable, Iterator
from itertools import chain
from types import CellType, CoroutineType, FrameType, FunctionType, GeneratorType, ModuleType
from typing import Any

_NAMELESS = (list, tuple, set, frozenset, dict, deque, CellType)  # who holds these says more
_MOST_LINKS = 4
_MOST_LETTERS = 160


def held_by(target: object, but: Collection[int] = ()) -> str:
    """The first holder of an object, its holder and so on, to the first that has a name: ``list of 9 in Cache.kept``.

    Each link costs a pass over every object that Python tracks; those that are frozen are not found (``thawed``).

    Args:
        target: the object.
        but: ids of holders that do not count, such as the caller's own lists.
    """
    links: list[str] = []
    while len(links) < _MOST_LINKS:
        holder = _holder(target, but)
        if holder is None:
            break
        links.append(_link(holder, target))
        if not isinstance(holder, _NAMELESS):
            break
        target = holder
    return " in ".join(links)[:_MOST_LETTERS] or "nothing that Python tracks"


def _holder(target: object, but: Collection[int]) -> object | None:
    """The best of the holders: frames only if there is nothing else, and a namespace's owner in its place."""
    found = [holder for holder in gc.get_referrers(target) if id(holder) not in but and not _is_ours(holder)]
    found.sort(key=lambda holder: (isinstance(holder, FrameType), isinstance(holder, _NAMELESS)))
    if not found:
        return None
    return _owner(found[0]) if isinstance(found[0], dict) else found[0]


def _is_ours(holder: object) -> bool:
    return isinstance(holder, FrameType) and holder.f_globals is globals()


def _owner(namespace: dict[Any, Any]) -> object:
    """The module, class or instance that a dict belongs to; the dict itself if none."""
    owners = [
        owner for owner in gc.get_referrers(namespace) if _namespace(owner) is namespace or isinstance(owner, type)
    ]
    owners.sort(key=lambda owner: not isinstance(owner, ModuleType))
    return owners[0] if owners else namespace


def _namespace(owner: object) -> dict[str, Any] | None:
    """The dict behind an object's attributes, None if it has none of its own."""
    if isinstance(owner, (*_NAMELESS, FunctionType, FrameType)):
        return None
    try:
        return vars(owner)
    except TypeError:
        return None


def _link(holder: object, target: object) -> str:
    if isinstance(holder, dict):
        return next((f"dict[{key!r}]" for key, value in holder.items() if value is target), "dict")
    if isinstance(holder, _NAMELESS):
        return f"{type(holder).__name__} of {len(holder)}" if not isinstance(holder, CellType) else "closure"
    if isinstance(holder, FrameType):
        return f"a frame of {holder.f_code.co_qualname}"
    attribute = next((f".{name}" for name, value in _attributes(holder) if value is target), "")
    return f"{_name(holder)}{attribute}"


def _attributes(holder: object) -> Iterator[tuple[str, object]]:
    slots = chain.from_iterable(_slots(kind) for kind in type(holder).__mro__)
    return chain((_namespace(holder) or {}).items(), ((name, getattr(holder, name, None)) for name in slots))


def _slots(kind: type) -> Iterable[str]:
    slots: str | Iterable[str] = vars(kind).get("__slots__", ())
    return (slots,) if isinstance(slots, str) else slots


def _name(holder: object) -> str:
    if isinstance(holder, ModuleType):
        return f"module {holder.__name__}"
    if isinstance(holder, type | FunctionType | GeneratorType | CoroutineType):
        return holder.__qualname__
    return type(holder).__qualname__
