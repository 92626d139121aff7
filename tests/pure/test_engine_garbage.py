"""Python's own collector around an engine: put off, measured, run when due, and left as it was."""

import gc
import sys
from collections.abc import Iterator

import pytest

from infergc.engine.garbage import Pauses, PythonGarbage, garbage_figures, thawed
from infergc.units import MIB
from samples.litter import OLDEST, litter, watched_collections

ENOUGH = 200_000  # objects: many times what brings on a full collection


@pytest.fixture(autouse=True)
def a_small_heap() -> Iterator[None]:
    """Only what a test makes counts, so that full collections come soon, and cost little."""
    gc.collect()
    gc.freeze()
    gc.collect()
    yield
    gc.unfreeze()


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def collections_by_themselves() -> list[int]:
    found: list[int] = []
    with watched_collections(found.append):
        litter(ENOUGH)
    return found


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="Python's collections are all incremental")
def test_without_it_full_collections_start_by_themselves() -> None:
    assert OLDEST in collections_by_themselves()


def test_no_full_collection_starts_by_itself() -> None:
    with PythonGarbage({}):
        found = collections_by_themselves()
    assert found
    assert OLDEST not in found


def test_python_is_left_as_it_was() -> None:
    before = gc.get_threshold(), list(gc.callbacks)
    garbage = PythonGarbage({})
    for _ in range(2):
        with garbage:
            assert (gc.get_threshold(), gc.callbacks) != before
        assert (gc.get_threshold(), gc.callbacks) == before
        garbage.release()
        assert (gc.get_threshold(), gc.callbacks) == before


def test_what_it_froze_is_thawed() -> None:
    gc.unfreeze()
    with PythonGarbage({}) as garbage:
        garbage.freeze()
        assert gc.get_freeze_count() > 1000
    assert gc.get_freeze_count() == 0


def test_a_threshold_that_was_changed_meanwhile_is_left() -> None:
    before = gc.get_threshold()
    try:
        with PythonGarbage({}):
            gc.set_threshold(500, 5, 5)
        assert gc.get_threshold() == (500, 5, 5)
    finally:
        gc.set_threshold(*before)


@pytest.mark.parametrize("first_to_leave", [0, 1])
def test_two_at_once_leave_python_as_it_was(first_to_leave: int) -> None:
    before = gc.get_threshold(), list(gc.callbacks)
    both = [PythonGarbage({}), PythonGarbage({})]
    for garbage in both:
        garbage.__enter__()
    both[first_to_leave].release()
    both[1 - first_to_leave].release()
    assert (gc.get_threshold(), gc.callbacks) == before


def test_pauses_are_measured_by_generation() -> None:
    with PythonGarbage({}) as garbage:
        cycle: list[object] = []
        cycle.append(cycle)
        del cycle
        gc.collect(0)
        gc.collect(1)
        garbage.collect()
    figures = garbage_figures(garbage)
    gc.collect()
    assert [int(number) for number in figures["collections"]] == [1, 1, 1]
    assert figures["collected"][0] >= 1
    assert figures["pause_seconds"] == figures["longest_seconds"]
    assert all(0 < seconds < 60 for seconds in figures["pause_seconds"])
    assert figures["runs"] == {"idle": 1, "overdue": 0}


def test_pauses_add_up_and_the_longest_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr("infergc.engine.garbage.time.perf_counter", clock)
    pauses = Pauses()
    for seconds in (0.25, 0.5, 0.125):
        pauses("start", {"generation": 1, "collected": 0, "uncollectable": 0})
        clock.now += seconds
        pauses("stop", {"generation": 1, "collected": 3, "uncollectable": 2})
    assert pauses.figures == {
        "collections": [0, 3, 0],
        "pause_seconds": [0, 0.875, 0],
        "longest_seconds": [0, 0.5, 0],
        "collected": [0, 9, 0],
        "uncollectable": [0, 6, 0],
    }


def test_an_engine_that_is_never_idle_collects_once_a_minute() -> None:
    clock = Clock()
    with PythonGarbage({}, clock) as garbage:
        due = []
        for _ in range(240):
            clock.now += 0.5
            due.append(garbage.relieve())
    assert [at for at, collected in enumerate(due) if collected] == [119, 239]
    assert garbage.collections == {"idle": 0, "overdue": 2}


def test_overdue_collections_take_a_thousandth_of_the_time() -> None:
    clock = Clock()

    def slow(_: int) -> None:
        clock.now += 0.5

    with watched_collections(slow), PythonGarbage({}, clock) as garbage:
        garbage.collect()
        gained = 0
        for _ in range(1000):
            clock.now += 1.0
            gained += garbage.relieve()
    assert gained == 2, "once in 500 seconds, however overdue"


def test_growth_beyond_the_ledger_brings_it_forward() -> None:
    clock = Clock()

    def overdue() -> bool:
        clock.now += 2.0
        return garbage.relieve()

    with PythonGarbage({}, clock) as garbage:
        assert not overdue()
        block = b"x" * (80 * MIB)
        assert overdue()
        assert not overdue(), "what a collection left is not garbage"
        del block
    with PythonGarbage({"weights": 1 << 40, "kv": 1}, clock) as garbage:
        block = b"x" * (80 * MIB)
        assert not overdue(), "the ledger said that it might"
        del block
    with PythonGarbage({"weights": 1, "kv": 1 << 40}, clock) as garbage:
        block = b"x" * (80 * MIB)
        assert overdue(), "room for KV is not room for anything else"
        del block


class Node:
    def __init__(self) -> None:
        self.me = self


def test_thawing_shows_what_is_frozen_and_freezes_no_garbage() -> None:
    old = Node()
    gc.freeze()
    assert old not in gc.get_objects()
    with thawed():
        assert any(found is old for found in gc.get_objects())
        collected: list[int] = []
        Node()
        gc.callbacks.append(lambda phase, info: collected.append(info["collected"]) if phase == "stop" else None)
    gc.callbacks.pop()
    assert gc.get_freeze_count() > 0
    assert sum(collected) >= 1


def test_thawing_freezes_nothing_where_nothing_was() -> None:
    gc.unfreeze()
    with thawed():
        pass
    assert gc.get_freeze_count() == 0
