"""What holds an object is named: attributes, modules, closures; frames only where nothing else does."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from weakref import ref

import pytest

from infergc.worker.debug.holders import held_by

KEPT: list[Any] = []


class Target:
    pass


class Owner:
    def __init__(self, value: object) -> None:
        self.value = value


@dataclass(slots=True)
class Slotted:
    first: object
    second: object


class Namespace:
    kept: Any = None


def test_an_attribute() -> None:
    owner = Owner(Target())
    assert held_by(owner.value) == "Owner.value"
    vars(owner)  # from here on the attributes are a dict
    assert held_by(owner.value) == "Owner.value"


def test_a_slot() -> None:
    held = Slotted(1, Target())
    assert held_by(held.second) == "Slotted.second"


def test_containers_up_to_who_has_a_name() -> None:
    owner = Owner(deque([1, (Target(),)]))
    assert held_by(owner.value[1][0]) == "tuple of 1 in deque of 2 in Owner.value"
    owner = Owner({"a": [Target()]})
    assert held_by(owner.value["a"][0]) == "list of 1 in dict['a'] in Owner.value"


def test_a_module() -> None:
    KEPT.append(Target())
    try:
        assert held_by(KEPT[0]) == f"list of 1 in module {__name__}.KEPT"
    finally:
        KEPT.clear()


def test_a_class() -> None:
    Namespace.kept = [Target()]
    try:
        assert held_by(Namespace.kept[0]) == "list of 1 in Namespace.kept"
    finally:
        Namespace.kept = None


def test_a_closure() -> None:
    def make() -> Any:
        target = Target()

        def inner() -> object:
            return target

        return inner

    inner = make()
    assert held_by(inner()).startswith("closure in tuple of 1 in ")
    assert held_by(inner()).endswith("inner")


def test_a_cycle() -> None:
    first = Owner(None)
    first.value = Owner(first)
    assert held_by(first.value) == "Owner.value"


def test_a_frame_is_named_only_if_nothing_else_holds() -> None:
    def waiting() -> Iterator[object]:
        target = Target()
        yield target
        yield target

    paused = waiting()
    assert held_by(next(paused)).endswith(waiting.__qualname__)
    seen: list[ref[Target]] = []

    def failing() -> None:
        target = Target()
        seen.append(ref(target))
        raise LookupError

    with pytest.raises(LookupError) as kept:
        failing()
    assert held_by(seen[0]()) == f"a frame of {failing.__qualname__}"
    assert kept.tb is not None


def test_the_callers_own_lists_do_not_count() -> None:
    mine = [Target()]
    assert held_by(mine[0], {id(mine)}) == "nothing that Python tracks"


def test_a_line_stays_a_line() -> None:
    owner = type("L" * 500, (Owner,), {})(Target())
    assert len(held_by(owner.value)) == 160


def test_what_cannot_be_looked_into_is_still_named() -> None:
    class Odd:
        __slots__ = ("value",)

        def __init__(self) -> None:
            self.value = Target()

        def __getattribute__(self, name: str) -> object:
            if name == "__dict__":
                raise AttributeError(name)
            return super().__getattribute__(name)

    odd = Odd()
    with pytest.raises(TypeError):
        vars(odd)
    assert held_by(odd.value) == Odd.__qualname__ + ".value"
