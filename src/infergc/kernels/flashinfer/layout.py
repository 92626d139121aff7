"""A step in FlashInfer's words, by numpy: index pointers, page numbers, lengths of last pages, the order of tokens.

Shapes: T tokens of the step, S rows, B rows of a part, I page numbers of all parts, P tokens in a page.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from infergc.kernels.api import BatchLayout
from infergc.kernels.checks import check_reach
from infergc.kernels.triton.layout import I64, ramp, spell_out
from infergc.sched.plan import I32


@dataclass(frozen=True, slots=True)
class Part:
    """Rows that one call of the library computes. It puts a row's queries at the end of the row's keys.

    Released pages are no keys here, and so positions count from the first page that the table holds: what a query
    sees follows from how far it is from the end, which that leaves as it is.

    Attributes:
        decode: rows of one token each; else of more.
        first_token: where its tokens begin, in the library's order.
        first_page: where its page numbers begin.
        qo_indptr: [B + 1] its tokens before each row, and all of them.
        kv_indptr: [B + 1] its page numbers before each row, and all of them.
        last_page_len: [B] positions of each row's last page that are keys, 1 … P.
    """

    decode: bool
    first_token: int
    first_page: int
    qo_indptr: I32
    kv_indptr: I32
    last_page_len: I32

    @property
    def tokens(self) -> slice:
        """Its tokens, in the library's order."""
        return slice(self.first_token, self.first_token + int(self.qo_indptr[-1]))

    @property
    def pages(self) -> slice:
        """Its page numbers among all."""
        return slice(self.first_page, self.first_page + int(self.kv_indptr[-1]))


@dataclass(frozen=True, slots=True)
class Work:
    """What the library is told of a step, and two facts that calls are checked by.

    Attributes:
        slots_T: page number · P + offset of each token, in the step's order.
        order_T: the token at each place of the library's order, which goes part by part; None where it is the step's.
        pages_I: page numbers, row by row in the library's order.
        parts: at most one of rows of one token, and then one of rows of more. Rows without tokens are in none.
        reach: the widest window that reads no released page.
        last_page: the greatest page number of a row.
    """

    slots_T: I64
    order_T: I64 | None
    pages_I: I64
    parts: tuple[Part, ...]
    reach: int
    last_page: int


def lay_out(layout: BatchLayout, page_tokens: int) -> Work:
    """Say a step in the library's words.

    Raises:
        ValueError: a row's table does not hold the positions that the row computes.
    """
    spelled = spell_out(layout, page_tokens)
    firsts, starts, counts, bases = spelled.rows_S4.T
    skipped = layout.table.skipped.astype(np.int64)
    needed = -(-(starts + counts) // page_tokens) - skipped
    last_page_len = (starts + counts - 1) % page_tokens + 1
    groups = [(True, np.flatnonzero(counts == 1)), (False, np.flatnonzero(counts > 1))]
    parts: list[Part] = []
    for decode, rows in groups:
        if len(rows):
            token, page = (parts[-1].tokens.stop, parts[-1].pages.stop) if parts else (0, 0)
            pointers = _indptr(counts[rows]), _indptr(needed[rows])
            parts.append(Part(decode, token, page, *pointers, last_page_len[rows].astype(np.int32)))
    ordered = np.concatenate([rows for _, rows in groups])
    order_T = _runs(firsts, counts, ordered)
    return Work(
        spelled.slots_T,
        None if (np.diff(order_T) == 1).all() else order_T,
        spelled.pages_I[_runs(bases + skipped, needed, ordered)],
        tuple(parts),
        spelled.reach,
        spelled.last_page,
    )


def window_left(window: int | None, reach: int) -> int:
    """How many positions before its own a token sees, -1 for all: the library's word for a window.

    Raises:
        ValueError: the window shows nothing, or reaches into released pages: further than ``reach``.
    """
    wanted = check_reach(window, reach)
    if wanted < 1:
        raise ValueError(f"a window shows at least the token's own position, not {window} of them")
    return -1 if window is None else wanted - 1


def _indptr(lengths: I64) -> I32:
    pointers: I32 = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    return pointers


def _runs(firsts_S: I64, lengths_S: I64, rows: NDArray[np.intp]) -> I64:
    """The numbers firsts[r] … firsts[r] + lengths[r] - 1 of the rows, one row after the other."""
    lengths = lengths_S[rows]
    return ramp(lengths) + np.repeat(firsts_S[rows], lengths)
