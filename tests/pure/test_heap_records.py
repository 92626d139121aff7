"""What the heap writes down of tokens, pages and who took them: each record by itself."""

import numpy as np
import pytest

from infergc.heap.groups import GroupSpec
from infergc.heap.journal import PageJournal
from infergc.heap.objects import TokenLog
from infergc.heap.provenance import Place, read, taken_by
from infergc.heap.tables import _relocated
from samples.heaps import P, compute, finished, open_stream, small_heap


@pytest.mark.parametrize("place", ["NOWHERE", "RESERVE", "SHARE", "FORK", "ADOPT", "COPY"])
def test_who_took_a_reference_where_is_one_number(place: str) -> None:
    found = read(taken_by(12345, Place[place]))
    assert (found[0], found[1].name) == (12345, place)


def test_pages_that_nobody_took_were_taken_nowhere() -> None:
    assert read(0) == (0, Place.NOWHERE)
    assert len(Place) == 7, "none is another's name"


def test_a_token_log_forgets_its_tail_and_goes_on() -> None:
    log = TokenLog(np.arange(40, dtype=np.int32))
    log.truncate(50)
    assert log.size == 40
    log.truncate(17)
    log.append(99)
    assert log.view().tolist() == [*range(17), 99]


@pytest.mark.parametrize("holders", [1, 2])
def test_a_page_whose_count_is_put_right_is_cached_if_the_tree_alone_holds_it(holders: int) -> None:
    heap = small_heap()
    finished(heap, range(4 * P))
    pages = heap.groups[0]
    cached, free = pages.cached, pages.space.free
    (page, *_) = np.flatnonzero(pages.sealed).tolist()
    pages.count[page] = 0  # one who let go too often: it counts as free
    pages.cached -= 1
    pages.space.give(page, 1)
    pages.restore(page, np.array([holders], np.int32))
    assert (pages.cached, pages.space.free) == (cached - (holders > 1), free)
    assert pages.count[page] == holders


def test_a_row_crosses_where_its_next_token_begins_a_page() -> None:
    heap = small_heap(None)
    lengths = [P - 1, P, P + 1, 2 * P]
    rows = [open_stream(heap, [at, *range(2 * P - 1)]) for at in range(len(lengths))]
    for row, length in zip(rows, lengths, strict=True):
        compute(heap, row, length, publish=False)
    slots = np.array([row.slot for row in rows], np.int32)
    grown = np.array(lengths, np.int32) + 1
    assert heap.crossing(slots, grown).tolist() == [False, True, False, True]


def test_the_middle_of_an_extent_moves() -> None:
    to = np.array([50, 51, 70], np.int32)
    assert _relocated(10, 6, 11, to) == [(10, 1), (50, 2), (70, 1), (14, 2)]
    assert _relocated(10, 2, 8, to) == [(70, 1), (11, 1)]
    assert _relocated(10, 2, 11, to) == [(10, 1), (50, 1)]


def test_the_journal_tells_the_latest_six_events_of_a_page() -> None:
    journal = PageJournal((GroupSpec("full", 8, None, 8),), P)
    for step in range(9):
        journal.written(0, [3], step, f"r{step}")
    told = journal.tell(0, 3)
    assert [f"by r{step}" in told for step in range(9)] == [False] * 3 + [True] * 6
    journal.freed(0, 3, 1)
    assert journal.tell(0, 3).count(" in step ") == 6
