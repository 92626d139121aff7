"""Layer groups: how a budget in bytes becomes pages."""

import pytest

from infergc.heap.groups import GroupSpec, pages_for, split_budget
from samples.heaps import P, compute, open_stream, small_heap

GROUPS = (GroupSpec("full", 3000), GroupSpec("sliding", 1000, window=128))


@pytest.mark.parametrize(("tokens", "pages"), [(0, 0), (1, 1), (16, 1), (17, 2), (1024, 64)])
def test_pages_for(tokens: int, pages: int) -> None:
    assert pages_for(tokens, 16) == pages


def test_groups_of_unequal_bytes_get_equal_tokens() -> None:
    full, sliding = split_budget(GROUPS, 100_000)
    assert (full.capacity, sliding.capacity) == (25, 25)
    assert (full.page_bytes, sliding.window) == (3000, 128)


def test_a_budget_below_one_page_is_refused() -> None:
    assert split_budget(GROUPS, 4000)[0].capacity == 1
    with pytest.raises(ValueError, match=r"^3\.9 KiB is too little; one page of every layer group takes 3\.9 KiB$"):
        split_budget(GROUPS, 3999)


def test_grantable_counts_free_and_cached_but_not_live_pages() -> None:
    heap = small_heap(None, None, pages=10)
    cached, live = open_stream(heap, range(100)), open_stream(heap, range(500, 600))
    compute(heap, cached, 4 * P)
    compute(heap, live, 3 * P)
    heap.close(cached)
    assert heap.grantable([7, 7])
    assert not heap.grantable([7, 8])
    assert not heap.grantable([8, 0])
