"""Heap objects: what holds references to pages. Roots keep others alive."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from infergc.heap.moves import I32, PageTable
from infergc.heap.nodes import U64, Namespace, Node
from infergc.heap.space import Extent


class KnownTokens(Protocol):
    """What is known of one stream, as the heap sees it; it only grows while pages depend on it."""

    @property
    def size(self) -> int:
        """How many tokens are known."""
        ...

    def view(self) -> I32:
        """The known tokens; valid until more become known."""
        ...


class TokenLog:
    """The known tokens of one stream that stands alone, append-only and amortised."""

    def __init__(self, tokens: I32) -> None:
        self._data = np.array(tokens, np.int32)
        self.size = len(tokens)

    def view(self) -> I32:
        """All known tokens; valid until the next append. Cost: O(1)."""
        return self._data[: self.size]

    def append(self, token: int) -> None:
        """Add one token. Cost: O(1) amortised."""
        if self.size == len(self._data):
            self._data = np.resize(self._data, max(16, 2 * self.size))
        self._data[self.size] = token
        self.size += 1

    def truncate(self, size: int) -> None:
        """Forget the tokens from ``size`` on. Cost: O(1)."""
        self.size = min(size, self.size)


@dataclass(slots=True, eq=False)
class HeapObject:
    """What holds references: a node of the object graph (``heap.graph``), which alone changes its counts.

    Attributes:
        id: ascending in order of creation; breaks ties.
        owner: the request or session it belongs to, for dumps and reports.
        refs: references to it, roots among them.
        roots: references from outside the heap.
        holds: the objects that it keeps, by id.
    """

    id: int
    owner: str
    refs: int = field(default=0, init=False)
    roots: int = field(default=0, init=False)
    holds: dict[int, "HeapObject"] = field(default_factory=dict, init=False)


class BeamGroup(HeapObject):
    """The hypotheses of a beam search: it holds them, and they hold it."""

    __slots__ = ()


class Session(HeapObject):
    """Requests that belong together: it holds their sequences, and they hold it."""

    __slots__ = ()


@dataclass(slots=True, eq=False)
class Sequence(HeapObject):
    """One token stream's hold on pages: a row of every group's block tables, or extents of its own once it is parked.

    Attributes:
        slot: its row in tables and in worker state; -1 when it is parked.
        tokens: what is known of the stream.
        tip: the prefix-tree node at which its sealed prefix ends.
        sealed: leading pages that the prefix tree holds too.
        exact: its KV is what an exact computation gives; only then is it published (law 8).
        publishing: whether full pages go to the prefix tree.
        marks: of the pages of its prompt, if a policy worked them out (``heap.marks``).
        parked: what it holds in each group once its request has ended and others keep it.
        last_read: the last step that read it before it was parked.
    """

    slot: int
    namespace: Namespace
    tokens: KnownTokens
    tip: Node
    sealed: int = 0
    exact: bool = True
    publishing: bool = True
    marks: U64 | None = None
    parked: tuple[list[Extent], ...] = ()
    last_read: int = -1


class Pin(Sequence):
    """A hold on a cached prefix that somebody asked for: a sequence that never runs, parked from the beginning."""

    __slots__ = ()


@dataclass(slots=True)
class InFlight:
    """Work in flight is a root: references that live until ``step`` is done (law 5).

    It takes over the references that a sequence drops while a step still reads them, and holds the source
    of a copy until the copy was made.
    """

    step: int
    held: list[tuple[int, list[Extent]]] = field(default_factory=list)  # (group, extents)

    def extents(self) -> Iterator[tuple[int, Extent]]:
        """Each (group, extent) held."""
        for group, extents in self.held:
            for extent in extents:
                yield group, extent


@dataclass(frozen=True, slots=True)
class StepReads:
    """What a planned step reads and writes, kept until it is done so that laws 3 to 5 can be checked."""

    sequences: NDArray[np.int64]  # [S] ids
    starts: I32  # [S] first position written
    counts: I32  # [S] positions written
    tables: tuple[PageTable, ...]
