"""Block tables against plain lists of pages."""

import numpy as np
import pytest

from infergc.heap.moves import PageTable
from infergc.heap.pages import page_numbers, runs_of
from infergc.heap.space import Extent
from infergc.heap.tables import BlockTables


def _listed(extents: list[Extent]) -> list[int]:
    return list(page_numbers(extents))


class Model:
    """A row as a list: logical pages from ``skipped`` on."""

    def __init__(self) -> None:
        self.skipped = 0
        self.pages: list[int] = []


def _step(rng: np.random.Generator, tables: BlockTables, slot: int, row: Model) -> None:
    end = row.skipped + len(row.pages)
    match int(rng.integers(5)):
        case 0 | 1:
            fresh = [int(rng.integers(1000)) for _ in range(rng.integers(1, 12))]
            fresh = sorted(fresh) if rng.random() < 0.5 else list(range(fresh[0], fresh[0] + len(fresh)))
            tables.append(slot, runs_of(np.array(fresh, np.int32)))
            row.pages += fresh
        case 2:
            keep = int(rng.integers(row.skipped, end + 3))
            assert _listed(tables.drop_tail(slot, keep)) == row.pages[keep - row.skipped :]
            del row.pages[keep - row.skipped :]
        case 3:
            upto = int(rng.integers(0, end + 3))
            count = max(0, min(upto - row.skipped, len(row.pages)))
            assert _listed(tables.drop_head(slot, upto)) == row.pages[:count]
            row.skipped += count
            del row.pages[:count]
        case _ if row.pages:
            low = int(rng.integers(len(row.pages)))
            new = [int(rng.integers(1000)) for _ in range(rng.integers(1, len(row.pages) - low + 1))]
            gone = tables.replace(slot, row.skipped + low, np.array(new, np.int32))
            assert _listed(gone) == row.pages[low : low + len(new)]
            row.pages[low : low + len(new)] = new


def test_random_use_agrees_with_lists() -> None:
    rng = np.random.default_rng(1)
    tables, rows = BlockTables(3), [Model() for _ in range(3)]
    for _ in range(1500):
        slot = int(rng.integers(3))
        row = rows[slot]
        _step(rng, tables, slot, row)
        end = row.skipped + len(row.pages)
        low = int(rng.integers(row.skipped, end + 1))
        high = int(rng.integers(low, end + 1))
        assert _listed(tables.row(slot)) == row.pages
        assert int(tables.skipped[slot]) == row.skipped
        assert int(tables.held[slot]) == len(row.pages)
        assert tables.last_page(slot) == (row.pages[-1] if row.pages else -1)
        assert _listed(tables.slice(slot, low, high)) == row.pages[low - row.skipped : high - row.skipped]
    _compare_gathered(tables.gather(np.array([2, 0, 1], np.int32)), [rows[2], rows[0], rows[1]])


def _compare_gathered(table: PageTable, rows: list[Model]) -> None:
    for at, row in enumerate(rows):
        extents = list(zip(table.first[at].tolist(), table.pages[at].tolist(), strict=True))
        assert _listed(extents) == row.pages
        assert int(table.skipped[at]) == row.skipped


def test_touching_extents_become_one() -> None:
    tables = BlockTables(1)
    tables.append(0, [(4, 2), (6, 1)])
    tables.append(0, [(7, 3), (20, 1)])
    assert tables.row(0) == [(4, 6), (20, 1)]


def test_copy_and_clear() -> None:
    tables = BlockTables(2)
    tables.start_at(0, 3)
    tables.append(0, [(4, 2), (9, 1)])
    assert tables.copy(0, 1) == [(4, 2), (9, 1)]
    assert tables.clear(0) == [(4, 2), (9, 1)]
    assert tables.row(0) == []
    assert (tables.row(1), int(tables.skipped[1]), int(tables.skipped[0])) == ([(4, 2), (9, 1)], 3, 0)


@pytest.mark.parametrize("extents", [0, 1, 8, 9, 40])
def test_what_a_step_gathered_does_not_change_afterwards(extents: int) -> None:
    tables = BlockTables(2)
    tables.append(1, [(2 * at, 1) for at in range(extents)])
    table = tables.gather(np.array([1], np.int32))
    tables.clear(1)
    tables.append(1, [(500, 3)])
    assert _listed(list(zip(table.first[0].tolist(), table.pages[0].tolist(), strict=True))) == [
        2 * at for at in range(extents)
    ]


def test_a_row_is_lengthened_by_the_page_after_its_last() -> None:
    tables = BlockTables(2)
    tables.append(1, [(4, 2), (9, 1)])
    tables.lengthen(1)
    assert tables.row(1) == [(4, 2), (9, 2)]
    assert tables.span(1) == (0, 4)
