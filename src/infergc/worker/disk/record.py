"""The bytes of a segment: its header, the entries that name its pages, and their checksums.

``docs/disk-format.md`` shows the layout byte by byte. All numbers are little endian.
"""

import struct
from dataclasses import dataclass
from zlib import crc32

from infergc.units import MIB, ceil_div
from infergc.worker.disk.pages import KEY_BYTES, U8

VERSION = 1
MOST_SEGMENT_BYTES = 256 * MIB  # of a segment with more than one page
MOST_RECORDS = 1 << 16  # of a segment: what a file may make a reader take in

_MAGIC = b"infergc\n"
_HEADER = struct.Struct("<8sIIQI16s16xI")  # magic, version, tokens and bytes of a page, records, name, checksum
_TAIL = struct.Struct("<III")  # number, page's checksum, entry's checksum
_ALIGNMENT = 4096  # of the first page in its file
HEADER_BYTES = _HEADER.size


class Damaged(Exception):  # noqa: N818 - it names what was found
    """Bytes that are not what was once written; ``is_short``: they are too few."""

    def __init__(self, *, is_short: bool = False) -> None:
        super().__init__()
        self.is_short = is_short


class OfOthers(Exception):  # noqa: N818 - as above
    """An intact segment whose pages this server has no use for."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Where things lie in a segment: the header, a table of entries, then the pages in the same order.

    Attributes:
        page_tokens: tokens in a page.
        page_bytes: bytes of a page.
        records: pages that the segment has room for.
    """

    page_tokens: int
    page_bytes: int
    records: int

    @classmethod
    def within(cls, limit: int, page_tokens: int, page_bytes: int) -> "Layout":
        """As many records as fit into ``limit`` bytes, and into what any segment may be; at least one."""
        limit = min(limit, MOST_SEGMENT_BYTES) - HEADER_BYTES - _ALIGNMENT
        each = page_bytes + cls(page_tokens, page_bytes, 1).entry_bytes
        return cls(page_tokens, page_bytes, min(max(limit // each, 1), MOST_RECORDS))

    @property
    def identity_bytes(self) -> int:
        """Of a page's key, parent and token ids."""
        return 2 * KEY_BYTES + 4 * self.page_tokens

    @property
    def entry_bytes(self) -> int:
        """Of one entry."""
        return self.identity_bytes + _TAIL.size

    def entry_at(self, number: int) -> int:
        """Where an entry begins."""
        return HEADER_BYTES + number * self.entry_bytes

    def page_at(self, number: int) -> int:
        """Where a page begins."""
        first = ceil_div(self.entry_at(self.records), _ALIGNMENT) * _ALIGNMENT
        return first + number * self.page_bytes

    @property
    def size(self) -> int:
        """Bytes of a full segment."""
        return self.page_at(self.records)

    def header(self, name: bytes) -> bytes:
        """The header of a segment with this layout; ``name``: 16 bytes that no other segment has."""
        fields = (_MAGIC, VERSION, self.page_tokens, self.page_bytes, self.records, name)
        unsigned = _HEADER.pack(*fields, 0)[:-4]
        return unsigned + struct.pack("<I", crc32(unsigned))


def read_header(header: bytes, page_tokens: int, page_bytes: int) -> tuple[Layout, int]:
    """A segment's layout, and the seed of its entries' checksums.

    Raises:
        Damaged: it is not a header, or asks for more than any segment has.
        OfOthers: it is of other pages or another version.
    """
    if len(header) != HEADER_BYTES:
        raise Damaged(is_short=True)
    magic, version, tokens, each, records, _, checksum = _HEADER.unpack(header)
    if magic != _MAGIC or checksum != crc32(header[:-4]):
        raise Damaged
    if (version, tokens, each) != (VERSION, page_tokens, page_bytes):
        raise OfOthers
    if not 1 <= records <= MOST_RECORDS:
        raise Damaged
    return Layout(tokens, each, records), checksum


def entry(identity: bytes, number: int, page: U8, seed: int) -> bytes:
    """The entry of a page: who it is, and checksums of its bytes and of this entry.

    The page's checksum goes on from its identity's, and the entry's from its segment's: bytes of one page, or
    entries of one segment, do not pass for those of another.
    """
    unsigned = identity + struct.pack("<II", number, crc32(page.data, crc32(identity)))
    return unsigned + struct.pack("<I", crc32(unsigned, seed))


def read_entry(stored: bytes, number: int, seed: int) -> tuple[bytes, int]:
    """A page's identity and its checksum.

    Raises:
        Damaged: these are not the bytes of this segment's entry of that number.
    """
    found, page_checksum, checksum = _TAIL.unpack_from(stored, len(stored) - _TAIL.size)
    if found != number or checksum != crc32(stored[:-4], seed):
        raise Damaged
    return stored[: -_TAIL.size], page_checksum


def is_page(page: U8, identity: bytes, checksum: int) -> bool:
    """Whether these bytes are the page's that was written under this identity."""
    return crc32(page.data, crc32(identity)) == checksum
