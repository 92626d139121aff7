"""Units and the small arithmetic that everything shares: bytes, tokens, pages."""

import re
from fractions import Fraction

from infergc.wording import shown

KIB = 1024
MIB = 1024**2
GIB = 1024**3

_SIZE = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*(?:([kmgt])(i?))?b?\s*", re.IGNORECASE)
_POWER = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


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


def format_bytes(count: int) -> str:
    """Write a byte count for a person: ``"1.5 GiB"``."""
    for unit, size in (("TiB", 1024 * GIB), ("GiB", GIB), ("MiB", MIB), ("KiB", KIB)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} B"
