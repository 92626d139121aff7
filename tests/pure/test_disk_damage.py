"""Damage to segment files, of any kind and anywhere: each page is read back exactly or is a miss."""

import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from zlib import crc32

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infergc.worker.disk.news import Failure
from infergc.worker.disk.record import HEADER_BYTES, MOST_RECORDS, Layout
from infergc.worker.disk.store import DiskStore
from samples.disk_pages import PAGE_BYTES, PAGE_TOKENS, answer, key, lost, opened, page, read_back, segments, written

PAGES = 6
CAP = 1 << 19
LAYOUT = Layout.within(CAP // 32, PAGE_TOKENS, PAGE_BYTES)
ENTRY = LAYOUT.entry_bytes


def failures(store: DiskStore) -> dict[Failure, int]:
    return {why: count for why, count in store.counters().failures.items() if count}


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A segment of ``PAGES`` pages, as its writer left it."""
    directory = tmp_path_factory.mktemp("sound")
    store, host = opened(directory, CAP)
    written(store, host, range(PAGES))
    store.close()
    (path,) = segments(directory)
    return path.read_bytes()


def put(directory: Path, data: bytes) -> Path:
    path = directory / f"kv-{0:032x}.seg"
    path.write_bytes(data)
    return path


def test_the_layout_is_as_documented(sound):
    """Byte by byte, as docs/disk-format.md has it."""
    assert struct.unpack_from("<8sIIQI", sound) == (b"infergc\n", 1, PAGE_TOKENS, PAGE_BYTES, LAYOUT.records)
    assert sound[44:60] == bytes(16)
    seed = crc32(sound[:60])
    assert struct.unpack_from("<I", sound, 60) == (seed,)
    first_page = -(-(64 + LAYOUT.records * ENTRY) // 4096) * 4096
    assert len(sound) == first_page + PAGES * PAGE_BYTES
    for number in range(PAGES):
        entry = sound[64 + number * ENTRY :][:ENTRY]
        expected, data = page(number), sound[first_page + number * PAGE_BYTES :][:PAGE_BYTES]
        assert entry[:16] == expected.key
        assert entry[16:32] == expected.parent
        assert entry[32:-12] == expected.tokens.astype("<i4").tobytes()
        assert struct.unpack("<III", entry[-12:]) == (number, crc32(entry[:-12] + data), crc32(entry[:-4], seed))


def places() -> list[tuple[str, int]]:
    """One byte of each field."""
    table, first, second = HEADER_BYTES, LAYOUT.page_at(0), LAYOUT.entry_at(1)
    header = {"magic": 0, "version": 8, "tokens": 12, "bytes": 16, "records": 24, "name": 30, "checksum": 60}
    entry = {"key": 0, "parent": 16, "token ids": 32, "number": ENTRY - 12, "page's": ENTRY - 8, "own": ENTRY - 4}
    pages = {"first": first, "within": first + PAGE_BYTES + 9, "last": LAYOUT.page_at(PAGES) - 1}
    return [
        *((f"header: {name}", at) for name, at in header.items()),
        *((f"entry 0: {name}", table + at) for name, at in entry.items()),
        *((f"entry 1: {name}", second + at) for name, at in entry.items()),
        *((f"page: {name}", at) for name, at in pages.items()),
    ]


@pytest.mark.parametrize("bit", [0, 7])
@pytest.mark.parametrize(("where", "at"), places(), ids=[where for where, _ in places()])
@pytest.mark.parametrize("when", ["before the start", "while it runs"])
def test_a_flipped_bit_is_a_miss_and_a_count(tmp_path, sound, where, at, bit, when):
    damaged = sound[:at] + bytes([sound[at] ^ 1 << bit]) + sound[at + 1 :]
    path = put(tmp_path, sound if when == "while it runs" else damaged)
    store, host = opened(tmp_path, CAP)
    path.write_bytes(damaged)
    found = read_back(store, host, range(PAGES))
    if where.startswith("header") and when == "while it runs":
        assert all(found), "the layout is known by then, and every page is as it was"
    elif where.startswith("header"):
        assert not any(found)
        assert failures(store) == {Failure.CORRUPT: 1}
    else:
        assert found.count(False) == 1
        assert failures(store) == {Failure.CORRUPT: 1}
    store.close()


def test_a_damaged_page_is_told_of_once_and_written_anew(tmp_path, sound):
    at = LAYOUT.page_at(2)
    put(tmp_path, sound[:at] + b"?" + sound[at + 1 :])
    store, host = opened(tmp_path, CAP)
    found, news = answer(store, host, range(PAGES))
    assert found == [True, True, False, True, True, True]
    assert lost(news) == {key(2)}
    found, news = answer(store, host, [2])
    assert (found, lost(news)) == ([False], set())
    written(store, host, [2])
    assert read_back(store, host, range(PAGES)) == [True] * PAGES
    store.close()
    store, host = opened(tmp_path, CAP)
    assert read_back(store, host, range(PAGES)) == [True] * PAGES
    store.close()


def lengths() -> list[int]:
    edges = [0, 1, HEADER_BYTES - 1, HEADER_BYTES, LAYOUT.entry_at(1), LAYOUT.entry_at(1) + 5, LAYOUT.entry_at(PAGES)]
    return [*edges, *(LAYOUT.page_at(number) + more for number in range(PAGES) for more in (-1, 0, 1))]


@pytest.mark.parametrize("length", lengths())
@pytest.mark.parametrize("when", ["before the start", "while it runs"])
def test_a_truncated_file_keeps_what_is_whole(tmp_path, sound, length, when):
    path = put(tmp_path, sound if when == "while it runs" else sound[:length])
    store, host = opened(tmp_path, CAP)
    if when == "while it runs":
        with path.open("r+b") as file:
            file.truncate(length)
    whole = max((length - LAYOUT.page_at(0)) // PAGE_BYTES, 0)
    assert store.keys() == [key(number) for number in range(PAGES if when == "while it runs" else whole)]
    assert read_back(store, host, range(PAGES)) == [number < whole for number in range(PAGES)]
    assert failures(store).keys() <= {Failure.TRUNCATED}
    store.close()


def header(**changed: int) -> bytes:
    """A header with the right checksum, whatever it asks for."""
    fields = {"version": 1, "page_tokens": PAGE_TOKENS, "page_bytes": PAGE_BYTES, "records": 20} | changed
    unsigned = struct.pack("<8sIIQI16s16x", b"infergc\n", *fields.values(), bytes(16))
    return unsigned + struct.pack("<I", crc32(unsigned))


@pytest.mark.parametrize(
    "changed",
    [
        {"records": 0},
        {"records": 2**32 - 1},
        {"records": MOST_RECORDS + 1},
        {"page_bytes": 2**64 - 1},
        {"page_bytes": 0},
        {"page_tokens": 2**32 - 1},
        {"page_tokens": 0},
        {"version": 2},
    ],
    ids=str,
)
def test_a_hostile_header_makes_nobody_read_much(tmp_path, changed):
    path = put(tmp_path, header(**changed))
    with path.open("r+b") as file:
        file.truncate(1 << 40)  # a hole
    store, host = opened(tmp_path, 1 << 41)
    assert store.keys() == []
    assert read_back(store, host, [0]) == [False]
    counters = store.counters()
    assert counters.segments_of_others + sum(counters.failures.values()) == 1
    store.close()


def test_a_table_in_disorder_is_no_table(tmp_path, sound):
    """Entries of other numbers, and those of another segment, whatever their checksums say of themselves."""
    first, second = (sound[LAYOUT.entry_at(number) :][:ENTRY] for number in (0, 1))
    swapped = sound[:HEADER_BYTES] + second + first + sound[LAYOUT.entry_at(2) :]
    other_header = header(records=LAYOUT.records) + sound[HEADER_BYTES:]
    for data in (swapped, other_header):
        put(tmp_path, data)
        store, host = opened(tmp_path, CAP)
        assert not {key(0), key(1)} & set(store.keys())
        found = read_back(store, host, range(PAGES))
        assert not any(found[:2])
        assert failures(store)[Failure.CORRUPT] >= 2
        store.close()


def test_pages_that_never_reached_the_disk_are_a_miss(tmp_path, sound):
    """After a power failure entries may be there and pages not, or the other way round: zeros either way."""
    at = LAYOUT.page_at(1)
    put(tmp_path, sound[:at] + bytes(2 * PAGE_BYTES) + sound[at + 2 * PAGE_BYTES :])
    store, host = opened(tmp_path, CAP)
    assert read_back(store, host, range(PAGES)) == [True, False, False, True, True, True]
    store.close()
    put(tmp_path, sound[: LAYOUT.entry_at(1)] + bytes(2 * ENTRY) + sound[LAYOUT.entry_at(3) :])
    store, host = opened(tmp_path, CAP)
    assert read_back(store, host, range(PAGES)) == [True, False, False, True, True, True]
    store.close()


def _cut(data: bytearray, at: int, bytes_: bytes) -> None:
    del data[at:]


def _drop(data: bytearray, at: int, bytes_: bytes) -> None:
    del data[at : at + len(bytes_)]


def _insert(data: bytearray, at: int, bytes_: bytes) -> None:
    data[at:at] = bytes_


def _overwrite(data: bytearray, at: int, bytes_: bytes) -> None:
    data[at : at + len(bytes_)] = bytes_


def _blank(data: bytearray, at: int, bytes_: bytes) -> None:
    data[at : at + 64 * len(bytes_)] = bytes(len(data[at : at + 64 * len(bytes_)]))


def _repeat(data: bytearray, at: int, bytes_: bytes) -> None:
    """Something that was once written, elsewhere."""
    source = int.from_bytes(bytes_[:2], "big") % max(len(data), 1)
    data[at : at + ENTRY] = data[source : source + ENTRY]


DAMAGE = st.tuples(
    st.sampled_from([_cut, _drop, _insert, _overwrite, _blank, _repeat]),
    st.one_of(st.integers(0, LAYOUT.entry_at(PAGES)), st.integers(LAYOUT.page_at(0), LAYOUT.page_at(PAGES))),
    st.binary(min_size=1, max_size=80),
)


@settings(max_examples=300)
@given(damages=st.lists(DAMAGE, min_size=1, max_size=4), running=st.booleans())
def test_any_damage_is_a_miss_or_nothing(
    tmp_path_factory: pytest.TempPathFactory,
    sound: bytes,
    damages: list[tuple[Callable[[bytearray, int, bytes], None], int, bytes]],
    running: bool,
) -> None:
    directory = tmp_path_factory.mktemp("damaged")
    data = bytearray(sound)
    for damage, at, bytes_ in damages:
        damage(data, at, bytes_)
    path = put(directory, sound if running else bytes(data))
    store, host = opened(directory, CAP, slots=PAGES)
    if running:
        path.write_bytes(data)
    found = read_back(store, host, range(PAGES))  # which checks the bytes of what is found
    assert read_back(store, host, range(PAGES)) == found, "and no more by asking again"
    assert all(found) or sum(failures(store).values()) or store.counters().segments_of_others or len(data) < len(sound)
    written(store, host, range(PAGES))
    assert read_back(store, host, range(PAGES)) == [True] * PAGES, "the store goes on"
    assert failures(store).get(Failure.INTERNAL, 0) == 0
    store.close()
    shutil.rmtree(directory)
