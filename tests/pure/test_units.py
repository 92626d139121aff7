"""Sizes in bytes, counts and durations, read and written."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infergc.units import (
    GIB,
    KIB,
    MIB,
    ceil_div,
    format_bytes,
    format_seconds,
    parse_bytes,
    parse_count,
    parse_seconds,
)


@given(st.integers(0, 10**30), st.integers(1, 10**20))
def test_ceil_div(numerator, denominator):
    quotient = ceil_div(numerator, denominator)
    assert (quotient - 1) * denominator < numerator <= quotient * denominator


@pytest.mark.parametrize(
    ("text", "count"),
    [("0", 0), ("12", 12), ("12b", 12), ("3k", 3000), ("3kB", 3000), ("3KiB", 3 * KIB), (" 1.5 GiB ", 3 * GIB // 2),
     ("512M", 512_000_000), ("512MiB", 512 * MIB), ("2gi", 2 * GIB), ("1T", 10**12), ("1TiB", 1024 * GIB),
     ("0.1k", 100), ("9007199254740993", 2**53 + 1)],
)  # fmt: skip
def test_parse_bytes(text, count):
    assert parse_bytes(text) == count


@pytest.mark.parametrize(
    "text", ["", "x", "-1", "1e9", "12i", "12iB", "1 G B", "GiB", "1,5G", "1.G", "5x", "2GiB\n3", "٣"]
)
def test_what_is_no_size(text):
    with pytest.raises(ValueError, match="is not a size in bytes; write for example 512MiB"):
        parse_bytes(text)


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (1023, "1023 B"), (KIB, "1.0 KiB"), (3 * MIB // 2, "1.5 MiB"), (5000 * GIB, "4.9 TiB")],
)
def test_format_bytes(count, text):
    assert format_bytes(count) == text


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("0", 0),
        ("256", 256),
        ("2k", 2000),
        ("2K", 2000),
        ("2Ki", 2048),
        ("0.5k", 500),
        ("1.5Ki", 1536),
        (" 1M ", 10**6),
    ],
)
def test_parse_count(text, count):
    assert parse_count(text) == count


@pytest.mark.parametrize("text", ["", "k", "-1", "1e3", "1.5", "0.0001k", "2kB", "2g", "2 000", "٣"])
def test_what_is_no_count(text):
    with pytest.raises(ValueError, match="is not a whole number; write for example 256, 2k"):
        parse_count(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1s", 1.0), ("50ms", 0.05), (" 1.5 s ", 1.5), ("2min", 120.0), ("250us", 0.00025), ("3µs", 3e-6), ("0s", 0.0)],
)
def test_parse_seconds(text, seconds):
    assert parse_seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "1", "s", "-1s", "1e3s", "1S", "1 h", "5Ms", "1s2"])
def test_what_is_no_duration(text):
    with pytest.raises(ValueError, match="is not a duration; write for example 50ms, 1s"):
        parse_seconds(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0, "0 µs"), (0.00025, "250 µs"), (0.0482, "48.2 ms"), (0.9996, "1000 ms"), (1.5, "1.5 s"), (5000, "5000 s")],
)
def test_format_seconds(seconds, text):
    assert format_seconds(seconds) == text
