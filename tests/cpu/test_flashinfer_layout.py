"""Steps in FlashInfer's words, beside a count by hand: what each token sees and where it is written, slot by slot.

Shapes: T tokens of the step, S rows, P tokens in a page.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cpu.kernel_cases import needs
from infergc.kernels.api import BatchLayout
from infergc.kernels.flashinfer.layout import Work, lay_out, window_left
from infergc.kernels.triton import layout as triton
from infergc.kernels.triton.tiles import tiles
from infergc.sched.plan import PageTable
from infergc.units import ceil_div


@dataclass(frozen=True)
class Row:
    """A row, and the pages that its table holds from logical page ``skipped`` on."""

    start: int
    count: int
    skipped: int
    runs: list[tuple[int, int]]  # first page and pages

    @property
    def pages(self) -> list[int]:
        return [page for first, count in self.runs for page in range(first, first + count)]


def draw_rows(spans: list[tuple[int, int]], size: int, window: int | None, seed: int) -> list[Row]:
    """Rows that have given back some of what they may, hold up to three pages ahead, and lie scattered."""
    rng = np.random.default_rng(seed)
    cut = []
    for start, count in spans:
        most = 0 if window is None else max(0, start - window + 1) // size
        skipped = int(rng.integers(0, most + 1))
        held = ceil_div(start + count, size) - skipped + int(rng.integers(0, 4))
        lengths = []
        while sum(lengths) < held:
            lengths.append(int(rng.integers(1, held - sum(lengths) + 1)))
        cut.append((start, count, skipped, lengths))
    places, at = {}, 0
    names = [(row, run) for row, (*_, lengths) in enumerate(cut) for run in range(len(lengths))]
    for index in rng.permutation(len(names)).tolist():
        row, run = names[index]
        at += int(rng.integers(0, 3))
        places[names[index]] = (at, cut[row][3][run])
        at += cut[row][3][run]
    return [
        Row(start, count, skipped, [places[row, run] for run in range(len(lengths))])
        for row, (start, count, skipped, lengths) in enumerate(cut)
    ]


def layout_of(rows: list[Row]) -> BatchLayout:
    width = max([1, *(len(row.runs) for row in rows)])
    first, pages = (np.zeros((len(rows), width), np.int32) for _ in range(2))
    for index, row in enumerate(rows):
        for run, (page, count) in enumerate(row.runs):
            first[index, run], pages[index, run] = page, count
    columns = [np.array([getattr(row, name) for row in rows], np.int32) for name in ("start", "count", "skipped")]
    return BatchLayout(columns[0], columns[1], PageTable(first, pages, columns[2]))


def slot(row: Row, position: int, size: int) -> int:
    return row.pages[position // size - row.skipped] * size + position % size


def tokens_by_hand(rows: list[Row], size: int, window: int | None) -> Iterator[tuple[int, list[int]]]:
    """Of each token, in the step's order: where it is written, and the slots that it sees."""
    for row in rows:
        for position in range(row.start, row.start + row.count):
            low = 0 if window is None else max(0, position - window + 1)
            yield slot(row, position, size), [slot(row, p, size) for p in range(low, position + 1)]


def seen_by_the_library(work: Work, size: int, window: int | None) -> dict[int, list[int]]:
    """The slots that each token sees by FlashInfer's rules of causality and windows; each token once."""
    left = window_left(window, work.reach)
    tokens = np.arange(len(work.slots_T)) if work.order_T is None else work.order_T
    seen: dict[int, list[int]] = {}
    for part in work.parts:
        part_tokens, part_pages = tokens[part.tokens], work.pages_I[part.pages]
        for row in range(len(part.last_page_len)):
            pages = part_pages[part.kv_indptr[row] : part.kv_indptr[row + 1]]
            queries = part_tokens[part.qo_indptr[row] : part.qo_indptr[row + 1]]
            assert 1 <= part.last_page_len[row] <= size
            keys = (len(pages) - 1) * size + int(part.last_page_len[row])
            assert (len(queries) == 1) == part.decode
            for query, token in enumerate(queries.tolist()):
                own = keys - len(queries) + query
                low = 0 if left < 0 else max(0, own - left)
                assert token not in seen
                seen[token] = [int(pages[key // size]) * size + key % size for key in range(low, own + 1)]
    return seen


SPANS = st.lists(
    st.tuples(st.integers(0, 90), st.one_of(st.sampled_from([0, 1, 1]), st.integers(2, 40))), min_size=0, max_size=7
)


@given(SPANS, st.sampled_from([1, 8, 16]), st.one_of(st.none(), st.integers(1, 60)), st.integers(0, 1 << 20))
@settings(max_examples=300, deadline=None, derandomize=True)
def test_every_token_sees_and_writes_its_slots(
    spans: list[tuple[int, int]], size: int, window: int | None, seed: int
) -> None:
    rows = draw_rows(spans, size, window, seed)
    work = lay_out(layout_of(rows), size)
    by_hand = list(tokens_by_hand(rows, size, window))
    assert work.slots_T.tolist() == [written for written, _ in by_hand]
    assert seen_by_the_library(work, size, window) == {token: seen for token, (_, seen) in enumerate(by_hand)}
    needed = [page for row in rows for page in row.pages[: ceil_div(row.start + row.count, size) - row.skipped]]
    assert work.last_page == max(needed, default=-1)


@given(SPANS, st.integers(0, 1 << 20))
@settings(max_examples=100, deadline=None, derandomize=True)
def test_tokens_are_moved_only_where_rows_of_both_kinds_are_mixed(spans: list[tuple[int, int]], seed: int) -> None:
    work = lay_out(layout_of(draw_rows(spans, 16, None, seed)), 16)
    counts = [count for _, count in spans if count]
    in_order = counts == [c for c in counts if c == 1] + [c for c in counts if c > 1]
    assert (work.order_T is None) == in_order
    kinds = [part.decode for part in work.parts]
    assert kinds == [decode for decode in (True, False) if decode in {count == 1 for count in counts}]


def test_the_library_is_given_pointers_from_zero_in_32_bits() -> None:
    table = PageTable(
        np.array([[7, 2, 0], [11, 20, 40], [5, 0, 0], [9, 0, 0]], np.int32),
        np.array([[2, 3, 0], [1, 6, 2], [1, 0, 0], [3, 0, 0]], np.int32),
        np.array([0, 1, 0, 0], np.int32),
    )
    counts = np.array([70, 1, 0, 1], np.int32)
    work = lay_out(BatchLayout(np.array([0, 143, 4, 32], np.int32), counts, table), 16)
    decode, prefill = work.parts
    assert (decode.decode, prefill.decode) == (True, False)
    assert work.order_T is not None
    assert work.order_T.tolist() == [70, 71, *range(70)]
    assert work.pages_I.tolist() == [11, 20, 21, 22, 23, 24, 25, 40, 9, 10, 11, 7, 8, 2, 3, 4]  # 41 is held ahead
    assert (decode.tokens, decode.pages) == (slice(0, 2), slice(0, 11))
    assert (prefill.tokens, prefill.pages) == (slice(2, 72), slice(11, 16))
    assert [decode.qo_indptr.tolist(), decode.kv_indptr.tolist()] == [[0, 1, 2], [0, 8, 11]]
    assert [prefill.qo_indptr.tolist(), prefill.kv_indptr.tolist()] == [[0, 70], [0, 5]]
    assert [decode.last_page_len.tolist(), prefill.last_page_len.tolist()] == [[16, 1], [6]]
    arrays = [getattr(part, name) for part in work.parts for name in ("qo_indptr", "kv_indptr", "last_page_len")]
    assert {array.dtype for array in arrays} == {np.dtype(np.int32)}
    assert work.reach == 143 - 16 + 1


def test_a_step_without_tokens_has_no_parts() -> None:
    for rows in ([], draw_rows([(0, 0), (37, 0)], 16, None, 0)):
        work = lay_out(layout_of(rows), 16)
        assert (work.parts, work.order_T, len(work.slots_T), len(work.pages_I)) == ((), None, 0, 0)


@pytest.mark.parametrize(("window", "left"), [(None, -1), (1, 0), (7, 6), (1 << 40, triton.UNBOUNDED - 1)])
def test_a_window_counts_the_token_itself_and_the_library_does_not(window: int | None, left: int) -> None:
    assert window_left(window, triton.UNBOUNDED) == left


def test_a_window_that_reaches_released_pages_is_refused() -> None:
    work = lay_out(layout_of([Row(100, 1, 3, [(0, 4)]), Row(60, 5, 2, [(9, 3)])]), 16)
    assert work.reach == 60 - 32 + 1
    assert window_left(work.reach, work.reach) == work.reach - 1
    for window in (work.reach + 1, None):
        with pytest.raises(ValueError, match="a row's window reaches into pages that its table has released"):
            window_left(window, work.reach)


def test_a_window_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least the token's own position, not 0"):
        window_left(0, triton.UNBOUNDED)


@pytest.mark.parametrize("row", [Row(16, 1, 0, [(3, 1)]), Row(15, 2, 0, [(3, 1)]), Row(31, 1, 2, [(3, 4)])])
def test_short_tables_are_refused_as_by_triton(row: Row) -> None:
    layout, shape = layout_of([Row(0, 1, 0, [(0, 1)]), row]), needs()
    with pytest.raises(ValueError, match="row 1 computes positions") as ours:
        lay_out(layout, 16)
    with pytest.raises(ValueError, match="row 1 computes positions") as theirs:
        triton.lay_out(layout, shape, tiles(shape))
    assert str(ours.value) == str(theirs.value)
