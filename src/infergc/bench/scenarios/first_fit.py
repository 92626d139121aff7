"""A first-fit allocator of contiguous memory: holes in order of address, neighbours grown together (Knuth, 2.5)."""

from bisect import bisect_left


class FirstFit:
    """Addresses 0 … size - 1.

    Args:
        size: of the memory; any unit.

    Attributes:
        held: units that are handed out.
        top: one more than the highest address that was ever held.
        held_at_top: units that were handed out when it became so.
    """

    def __init__(self, size: int) -> None:
        self.held = self.top = self.held_at_top = 0
        self.size = size
        self._starts, self._ends = [0], [size]  # of the holes, none of which touch

    def take(self, length: int) -> int | None:
        """The address of that much memory, in the first hole that holds it; None if none does. Cost: O(holes)."""
        for hole, (start, end) in enumerate(zip(self._starts, self._ends, strict=True)):
            if end - start >= length:
                self._cut(hole, length)
                self.held += length
                if start + length > self.top:
                    self.top, self.held_at_top = start + length, self.held
                return start
        return None

    def give_back(self, start: int, length: int) -> None:
        """Free what ``take`` gave."""
        self.held -= length
        hole, end = bisect_left(self._starts, start), start + length
        if hole < len(self._starts) and self._starts[hole] == end:
            end = self._ends.pop(hole)
            del self._starts[hole]
        if hole and self._ends[hole - 1] == start:
            self._ends[hole - 1] = end
        else:
            self._starts.insert(hole, start)
            self._ends.insert(hole, end)

    def _cut(self, hole: int, length: int) -> None:
        self._starts[hole] += length
        if self._starts[hole] == self._ends[hole]:
            del self._starts[hole], self._ends[hole]
