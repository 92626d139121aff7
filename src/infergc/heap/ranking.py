"""Which superblocks are partly in use, by how much of them is: what a pass of compaction works off."""

from infergc.heap.space import FreeSpace
from infergc.units import ceil_div

_BLOCKS_A_UNIT = 16  # superblocks that are filed in the time in which a page is moved


class Ranking:
    """Superblocks of a group, filed piece by piece within a budget of work units.

    Args:
        space: whose.
    """

    def __init__(self, space: FreeSpace) -> None:
        self._space = space
        self._filed = 0
        self._by_free: list[list[int]] = [[] for _ in range(space.width)]

    def file(self, budget: int) -> int:
        """Go on; returns the units spent, of which each is 16 superblocks. Cost: O(budget)."""
        first, masks, brims = self._filed, self._space.masks, self._space.brims
        self._filed = min(first + budget * _BLOCKS_A_UNIT, len(masks))
        for block in range(first, self._filed):
            if masks[block] and masks[block] != brims[block]:
                self._by_free[masks[block].bit_count()].append(block)
        return ceil_div(self._filed - first, _BLOCKS_A_UNIT)

    @property
    def over(self) -> bool:
        """Whether every superblock was looked at."""
        return self._filed == len(self._space.masks)

    def sparsest_first(self) -> list[int]:
        """Those that were partly in use, ties by number. Cost: O(superblocks) of a copy."""
        return [block for blocks in reversed(self._by_free) for block in blocks]
