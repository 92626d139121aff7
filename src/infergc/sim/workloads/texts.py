"""Texts as block ids: what grows, what is shared, and ids for what is new.

Ids are cumulative, as those of recorded traces are: the same words after other words have another id.
"""

from itertools import count

from infergc.sim.workloads.knobs import Workload, WorkloadError
from infergc.units import ceil_div

BLOCK = 16  # tokens


class Ids:
    """Block ids that nobody has yet, counted from 0."""

    def __init__(self) -> None:
        self._next = count()

    def blocks(self, tokens: int) -> tuple[int, ...]:
        """Ids for a new text of so many tokens, the last block perhaps cut short."""
        return tuple(next(self._next) for _ in range(ceil_div(tokens, BLOCK)))

    def text(self, shared: tuple[int, ...] = ()) -> "Text":
        """A text that begins with blocks that others may begin with too."""
        return Text(self, shared)


class Text:
    """A text that only grows. A block that was cut short keeps its id when it fills up: its tokens stay the same.

    Attributes:
        length: tokens.
    """

    def __init__(self, ids: Ids, shared: tuple[int, ...]) -> None:
        self._ids = ids
        self._blocks = list(shared)
        self.length = len(shared) * BLOCK

    def grow(self, tokens: int) -> None:
        """Add tokens that nobody else has."""
        self.length += tokens
        self._blocks += self._ids.blocks(self.length - len(self._blocks) * BLOCK)

    def blocks(self) -> tuple[int, ...]:
        """What it consists of."""
        return tuple(self._blocks)


def whole_blocks(tokens: int) -> int:
    """So many tokens, rounded up to whole blocks: what is shared is shared in blocks."""
    return ceil_div(tokens, BLOCK) * BLOCK


def shared_blocks(work: Workload, ids: Ids, name: str, tokens: int) -> tuple[int, ...]:
    """Blocks of what many prompts begin with, rounded up to whole ones.

    Raises:
        WorkloadError: it would be more than half the context; the message names the knob.
    """
    blocks = ids.blocks(tokens)
    if len(blocks) * BLOCK > work.context // 2:
        most = work.context // 2 // BLOCK * BLOCK
        raise WorkloadError(f"{name}: {tokens} is not allowed; it must be at most {most}, in half the context")
    return blocks
