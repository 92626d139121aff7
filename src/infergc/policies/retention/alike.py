"""How many pages at the end of an edge are worth the same."""

from bisect import bisect_left
from collections.abc import Callable


def alike_at_end(pages: int, worth: Callable[[int], int]) -> int:
    """How many of the last so many pages are worth what the last is, at least one.

    Args:
        pages: how many are looked at.
        worth: of a page by its place from the end, 0 for the last. It does not fall towards the root: whoever has a
            page has had all before it. Cost: O(log pages) calls; two where all are worth the same.
    """
    last = worth(0)
    if worth(pages - 1) == last:
        return pages
    return bisect_left(range(1, pages), True, key=lambda place: worth(place) != last) + 1
