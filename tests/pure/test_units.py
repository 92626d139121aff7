"""Sizes in bytes, read and written."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infergc.units import GIB, KIB, MIB, ceil_div, format_bytes, parse_bytes


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
