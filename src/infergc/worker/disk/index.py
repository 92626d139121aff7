"""Which page lies in which segment: some 250 bytes of memory for each page on disk."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from infergc.worker.disk.record import Layout


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
    """Pages by key. A key that is in several segments is found in the one added last."""

    def __init__(self) -> None:
        self._places: dict[bytes, tuple[Segment, int]] = {}
        self._segments: dict[Path, Segment] = {}

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
        return list(self._segments)

    def keys(self) -> list[bytes]:
        """Of all pages, in the order in which they were added."""
        return list(self._places)

    def place(self, key: bytes) -> tuple[Segment, int] | None:
        """The segment that holds a page, and its number there."""
        return self._places.get(key)

    def add(self, segment: Segment, records: Iterable[tuple[int, bytes]]) -> None:
        """Add (number, key) of a segment's pages."""
        self._segments[segment.path] = segment
        for number, key in records:
            self._places.pop(key, None)  # to the end
            self._places[key] = (segment, number)
            segment.keys.append(key)

    def drop(self, keys: Iterable[bytes]) -> None:
        """Forget pages."""
        for key in keys:
            self._places.pop(key, None)

    def forget(self, path: Path) -> tuple[bytes, ...]:
        """Forget a segment. Returns the keys that are found no longer: none if it is not known."""
        segment = self._segments.pop(path, None)
        if segment is None:
            return ()
        lost = tuple(dict.fromkeys(key for key in segment.keys if self._is_in(key, segment)))
        self.drop(lost)
        return lost

    def _is_in(self, key: bytes, segment: Segment) -> bool:
        place = self._places.get(key)
        return place is not None and place[0] is segment
