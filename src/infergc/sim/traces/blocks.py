"""How many tokens a block of a trace has, which rows hold to it, and block ids counted from 0."""

from collections.abc import Sequence

from infergc.sim.traces.errors import BadRow
from infergc.sim.traces.rows import Row
from infergc.units import ceil_div

SIZES = (8, 16, 32, 64, 128, 256, 512, 1024, 2048)  # tokens
LineRow = tuple[int, Row]  # with its line


class SizeError(ValueError):
    """No block size explains most of the rows."""


def deduce(rows: Sequence[LineRow]) -> int:
    """The size in ``SIZES`` that most rows fit. Cost: O(rows).

    Several fit all rows only where each prompt is one block, and then any of them says the same.

    Raises:
        SizeError: not even half of them fit one size.
    """
    fitting = {size: sum(fits(row, size) for _, row in rows) for size in SIZES}
    best = max(SIZES, key=fitting.__getitem__)
    if 2 * fitting[best] < len(rows):
        raise SizeError(
            f"hash_ids: no block size of {SIZES[0]} to {SIZES[-1]} tokens, a power of two, gives each prompt as many "
            f"ids as it has blocks ({best} explains the most rows, {fitting[best]} of {len(rows)}); give block_tokens"
        )
    return best


def fits(row: Row, size: int) -> bool:
    """Whether the row has an id for each block of this many tokens, the last perhaps cut short."""
    return ceil_div(row.input_len, size) == len(row.ids)


def misfit(line: int, row: Row, size: int) -> BadRow:
    """What is wrong with a row that does not fit."""
    wanted = ceil_div(row.input_len, size)
    why = f"hash_ids: {len(row.ids)} ids are not allowed; {row.input_len} tokens in blocks of {size} must have {wanted}"
    return BadRow(line, why)


class Numbering:
    """Ids counted from 0 in the order in which they are met: whatever a trace used, they stay small."""

    def __init__(self) -> None:
        self._numbers: dict[int | str, int] = {}

    def of(self, ids: Sequence[int | str]) -> tuple[int, ...]:
        """The numbers of these ids. Cost: O(ids)."""
        numbers = self._numbers
        return tuple([numbers.setdefault(name, len(numbers)) for name in ids])
