"""Which page lies in which segment: some 200 bytes of memory for each page on disk."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from infergc.worker.disk.record import MOST_RECORDS, Layout


@dataclass(slots=True, eq=False)
class Segment:
    """A segment that can be read.

    Attributes:
        path: of its file.
        layout: where things lie in it.
        seed: of its entries' checksums.
        keys: of its pages, as they were added; some may be found elsewhere by now.
        touched: when its use was last noted, in seconds of the monotonic clock.
    """

    path: Path
    layout: Layout
    seed: int
    keys: list[bytes] = field(default_factory=list)
    touched: float = 0.0


class Index:
    """Pages by key. A key that is in several segments is found in the one added last.

    A place is one integer, of the segment's rank and the record's number, since Python's collector looks at every tuple
    there is each time, and at no integer.
    """

    def __init__(self) -> None:
        self._places: dict[bytes, int] = {}
        self._ranks: dict[Path, int] = {}
        self._segments: dict[int, Segment] = {}
        self._next = 0

    def __contains__(self, key: bytes) -> bool:
        return key in self._places

    def __len__(self) -> int:
        return len(self._places)

    @property
    def segments(self) -> int:
        """How many there are."""
        return len(self._segments)

    def paths(self) -> list[Path]:
        """Of all segments."""
        return list(self._ranks)

    def keys(self) -> list[bytes]:
        """Of all pages, in the order in which they were added."""
        return list(self._places)

    def place(self, key: bytes) -> tuple[Segment, int] | None:
        """The segment that holds a page, and its number there."""
        place = self._places.get(key)
        return None if place is None else (self._segments[place // MOST_RECORDS], place % MOST_RECORDS)

    def add(self, segment: Segment, records: Iterable[tuple[int, bytes]]) -> None:
        """Add (number, key) of a segment's pages."""
        rank = self._ranks.setdefault(segment.path, self._next)
        if rank == self._next:
            self._segments[rank] = segment
            self._next += 1
        for number, key in records:
            self._places.pop(key, None)  # to the end
            self._places[key] = rank * MOST_RECORDS + number
            segment.keys.append(key)

    def drop(self, keys: Iterable[bytes]) -> None:
        """Forget pages."""
        for key in keys:
            self._places.pop(key, None)

    def forget(self, path: Path) -> tuple[bytes, ...]:
        """Forget a segment. Returns the keys that are found no longer: none if it is not known."""
        rank = self._ranks.pop(path, None)
        if rank is None:
            return ()
        segment = self._segments.pop(rank)
        lost = tuple(key for key in dict.fromkeys(segment.keys) if self._places.get(key, -1) // MOST_RECORDS == rank)
        self.drop(lost)
        return lost
