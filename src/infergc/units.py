"""Units and the small arithmetic that everything shares: bytes, tokens, pages."""

import re
from fractions import Fraction

from infergc.wording import shown

KIB = 1024
MIB = 1024**2
GIB = 1024**3

_SIZE = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*(?:([kmgt])(i?))?b?\s*", re.IGNORECASE)
_POWER = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}
_COUNT = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*(?:([km])(i?))?\s*", re.IGNORECASE)
_DURATION = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*(us|µs|ms|s|min)\s*")
_SECONDS = {
    "us": Fraction(1, 10**6),
    "µs": Fraction(1, 10**6),
    "ms": Fraction(1, 1000),
    "s": Fraction(1),
    "min": Fraction(60),
}


def ceil_div(numerator: int, denominator: int) -> int:
    """Smallest integer ≥ numerator / denominator, for non-negative integers."""
    return -(-numerator // denominator)


def parse_bytes(text: str) -> int:
    """Read a size in bytes: ``"512M"``, ``"2GiB"``, ``"1073741824"``.

    ``k m g t`` count in powers of 1000, ``ki mi gi ti`` in powers of 1024.

    Raises:
        ValueError: the text is not such a size.
    """
    match = _SIZE.fullmatch(text)
    if match is None:
        raise ValueError(f"{shown(text)} is not a size in bytes; write for example 512MiB, 2GiB or 1073741824")
    number, prefix, binary = match.groups()
    base = 1024 if binary else 1000
    return int(Fraction(number) * base ** _POWER[(prefix or "").lower()])


def parse_count(text: str) -> int:
    """Read a count of tokens or requests: ``"256"``, ``"2k"``, ``"8Ki"``.

    ``k m`` count in powers of 1000, ``ki mi`` in powers of 1024, as in sizes.

    Raises:
        ValueError: the text is not such a count, or not a whole number.
    """
    match = _COUNT.fullmatch(text)
    if match is not None:
        number, prefix, binary = match.groups()
        count = Fraction(number) * (1024 if binary else 1000) ** _POWER[(prefix or "").lower()]
        if count.denominator == 1:
            return int(count)
    raise ValueError(f"{shown(text)} is not a whole number; write for example 256, 2k (2000) or 2Ki (2048)")


def parse_seconds(text: str) -> float:
    """Read a duration in seconds: ``"1s"``, ``"50ms"``, ``"1.5s"``, ``"2min"``.

    Raises:
        ValueError: the text is not such a duration; one without a unit is not.
    """
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError(f"{shown(text)} is not a duration; write for example 50ms, 1s or 2min")
    number, unit = match.groups()
    return float(Fraction(number) * _SECONDS[unit])


def format_seconds(seconds: float) -> str:
    """Write a duration for a person, in three digits: ``"48.2 ms"``, ``"1.5 s"``."""
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}" if seconds < 999.5 * size else f"{seconds / size:.0f} {unit}"
    return f"{seconds * 1e6:.3g} µs"


def format_bytes(count: int) -> str:
    """Write a byte count for a person: ``"1.5 GiB"``."""
    for unit, size in (("TiB", 1024 * GIB), ("GiB", GIB), ("MiB", MIB), ("KiB", KIB)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} B"
