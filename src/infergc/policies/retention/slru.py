"""Segmented LRU: what was asked for again is protected from what never was."""

from collections.abc import Sequence

from infergc.heap.retention import End
from infergc.policies.retention.listed import Listed, first_of

_PROBATION, _PROTECTED = range(2)


class Slru(Listed):
    """Two lists by last use. A page begins on probation and is protected from its second use on.

    Where more are protected than the share allows, those unused for longest are on probation again, as if just used.
    The first to go is the one on probation that is unused for longest. (Karedla, Love and Wherry, "Caching strategies
    to improve disk system performance", IEEE Computer 27(3), 1994.)

    Args:
        protected: share of the pool, 0 to 1.
    """

    queues = 2

    def __init__(self, protected: float = 0.5) -> None:
        self._share = protected

    def enter(self, marks: list[int]) -> None:
        """On probation."""
        self.put(_PROBATION, marks)

    def again(self, index: int, marks: list[int]) -> None:
        """Protected."""
        self.move(index, _PROTECTED, marks)

    def settle(self) -> None:
        """No more are protected than the share allows."""
        while len(self.lists[_PROTECTED]) > self._share * self.pages:
            self.shed(_PROTECTED, _PROBATION)

    def victim(self, ends: Sequence[End | None]) -> int:
        """One on probation, if any is idle."""
        return first_of(ends, (_PROBATION, _PROTECTED))
