"""What the heap asks of storage, as plain data: page tables to read, moves to make.

Shapes: S rows (sequences scheduled), E extents of the longest table.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

I32 = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class PageTable:
    """The block tables of a step's rows in one layer group: ordered extents, as kernels read them.

    Row r holds logical pages ``skipped[r], skipped[r] + 1, …`` in its extents, in order: extent e is
    the pages ``first[r, e] … first[r, e] + pages[r, e] - 1``. Unused extents have ``pages == 0``.
    Position p of the sequence lies in logical page ``p // page_tokens`` at offset ``p % page_tokens``.
    """

    first: I32  # [S, E]
    pages: I32  # [S, E]
    skipped: I32  # [S] logical pages released at the head (sliding window), 0 without a window


@dataclass(frozen=True, slots=True)
class Move:
    """Bytes the executor moves before a step's forward pass, in the order given.

    Stores and loads may be made before the others of their plan, in their own order, once the moves of the plan before
    were made: nothing that is copied in a plan is stored or loaded over in the same one.

    ``copy``: the first ``tokens`` rows of page ``src`` to page ``dst``, K and V, every layer of the group.
    ``store``: ``pages`` pages from ``src`` on to as many slots of the host tier from ``dst`` on.
    ``load``: ``pages`` slots of the host tier from ``src`` on to as many pages from ``dst`` on.
    Under ``--heap-debug`` also, over pages ``src`` to ``dst``, both included:
    ``poison``: they were freed; fill them with what shows when it is read or changed.
    ``check``: they are handed out; since they were poisoned, nothing may have written to them.
    """

    kind: Literal["copy", "store", "load", "poison", "check"]
    group: int
    src: int
    dst: int
    tokens: int
    pages: int = 1


TRANSFERS = frozenset({"store", "load"})  # moves between device and host
