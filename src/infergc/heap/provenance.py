"""Who took a page's last reference and where: what a leak report says."""

from collections import OrderedDict
from enum import IntEnum

_BITS = 4
_REMEMBERED = 1 << 15  # more than a major collection lets come and go, by the default of its trigger


class Place(IntEnum):
    """The operations that take references to pages."""

    NOWHERE = 0
    RESERVE = 1  # pages of its own
    SHARE = 2  # a cached prefix
    FORK = 3  # its parent's pages
    ADOPT = 4  # an identical page that the prefix tree had
    COPY = 5  # its copy of a shared tail
    PIN = 6  # a cached prefix, because somebody asked for it


def taken_by(number: int, place: Place) -> int:
    """One number that says which sequence took a reference where."""
    return number << _BITS | place


def read(taken: int) -> tuple[int, Place]:
    """Sequence and place of ``taken_by``."""
    return taken >> _BITS, Place(taken & (1 << _BITS) - 1)


class Owners:
    """Names of sequences that have gone, so that what they left behind can still be told. The last 32,768."""

    def __init__(self) -> None:
        self._names: OrderedDict[int, str] = OrderedDict()

    def remember(self, number: int, owner: str) -> None:
        """A sequence goes. Cost: O(1)."""
        self._names[number] = owner
        if len(self._names) > _REMEMBERED:
            self._names.popitem(last=False)

    def name(self, number: int) -> str:
        """Whose it was, as far as is known."""
        return self._names.get(number, f"sequence {number}, long gone")
