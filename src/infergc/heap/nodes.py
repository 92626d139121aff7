"""Nodes of the prefix tree: long edges of token ids with the pages that hold their KV."""

from bisect import bisect_left, insort
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from infergc.cache_control import ORDINARY

I32 = NDArray[np.int32]
U64 = NDArray[np.uint64]
Kind = TypeVar("Kind", np.int32, np.uint64)


@dataclass(frozen=True, slots=True)
class Namespace:
    """Whose KV may be shared with whom (law 7): pages match only inside equal namespaces, but for public ones.

    Attributes:
        model: digest of weights and of all that shapes KV: dtype, codec, rotary settings, layer groups,
            layout version.
        salt: the tenant's.
        public: leading pages of the text that hold nothing but what was declared public: all tenants share them. Those
            behind them are the tenant's, and stand behind its door.
    """

    model: str
    salt: str = ""
    public: int = 0

    @property
    def origin(self) -> "Namespace":
        """Under what the root stands that its pages hang on: texts that begin publicly have one for all tenants."""
        return Namespace(self.model, public=1) if self.public else self

    def door(self, page: int) -> bytes:
        """What stands before the tokens of this page in its key: the tenant's door behind public pages, else nothing.

        No token id is negative, and the salt's size comes before the salt: so no door begins another, nor a page.
        """
        if not self.public or page != self.public:
            return b""
        salt = self.salt.encode()
        return _DOOR + len(salt).to_bytes(4, "big") + salt

    def alike(self, page: int, end: int) -> int:
        """The last page up to ``end`` that those from ``page`` on share an edge with: none goes through a door."""
        return min(end, self.public) if page < self.public else end


_DOOR = b"\xff" * 4  # the token id -1
PASSED = -1  # the level of pages whose time is over


@dataclass(frozen=True, slots=True)
class Hint:
    """What was asked of a node's pages; ``heap.hints`` gives and ends hints.

    Attributes:
        priority: 0 to 100.
        ttl: seconds without use for which it holds, None: always.
        until: the last second in which it holds.
        is_shared: the pages were there before whoever asked for this: when its time is over they are ordinary again.
        passed: its time is over, and nobody used the pages since.
    """

    priority: int
    ttl: int | None = None
    until: int = 0
    is_shared: bool = False
    passed: bool = False


class Column(Generic[Kind]):
    """A growing array. Appending is O(1) amortised an entry."""

    def __init__(self, values: NDArray[Kind]) -> None:
        self._data: NDArray[Kind] = values.copy()
        self.size = len(values)

    def view(self) -> NDArray[Kind]:
        """The entries; valid until the next change. Cost: O(1)."""
        return self._data[: self.size]

    def extend(self, values: NDArray[Kind]) -> None:
        """Append entries. Cost: O(entries appended) amortised."""
        need = self.size + len(values)
        if need > len(self._data):
            self._data = np.resize(self._data, max(need, 2 * self.size))
        self._data[self.size : need] = values
        self.size = need

    def shift(self, count: int) -> NDArray[Kind]:
        """Remove the first entries and return them. Cost: O(entries)."""
        head = self._data[:count].copy()
        self._data = self._data[count : self.size].copy()
        self.size -= count
        return head

    def drop(self, count: int) -> NDArray[Kind]:
        """Remove the last entries and return them. Cost: O(count)."""
        self.size -= count
        return self._data[self.size : self.size + count].copy()


_NO_MARKS = np.empty(0, np.uint64)


class Node:
    """An edge of whole pages and what hangs below it.

    Attributes:
        id: ascending in order of creation; breaks ties.
        parent: None at a namespace's root, whose edge is empty.
        door: where its first page is the first of a tenant's behind public ones, what says whose (``Namespace.door``).
        tokens: the edge's token ids, a multiple of page_tokens.
        pages: per layer group, one physical page for each page of the edge.
        children: by the bytes of their edge's first page: siblings differ within it.
        keys: the children's keys, sorted, so that the one that shares most tokens is a neighbour.
        users: open sequences whose sealed prefix ends here.
        used: step of the last use, here or below.
        uses: how often a request was served from here or below.
        generation: 0 young, 1 survivor, 2 tenured.
        proved: ``uses`` when it was last looked at.
        marks: of the first pages of the edge, each page's fingerprint together with all before it (``heap.marks``);
            worked out for a policy that asks. A root's is what those of its namespace begin with.
        digests: of the first pages of the edge, each page's key in lower tiers (``heap.keys``); a root's is that of its
            namespace.
        saved: leading pages that were handed to the disk tier.
        pins: pins that hold its pages, and all before them.
        hint: what was asked of its pages, None if nothing was.
        resting: young, was looked at and not served, and will be looked at again once it is.
    """

    __slots__ = (
        "children", "digests", "door", "generation", "hint", "id", "keys", "marks", "pages", "parent", "pins", "proved",
        "resting", "saved", "tokens", "used", "users", "uses",
    )  # fmt: skip

    def __init__(
        self, node_id: int, parent: "Node | None", tokens: I32, pages: tuple[I32, ...], door: bytes = b""
    ) -> None:
        self.id = node_id
        self.parent = parent
        self.door = door
        self.tokens = Column(tokens)
        self.pages = tuple(Column(column) for column in pages)
        self.marks = Column(_NO_MARKS)
        self.digests: list[bytes] = []
        self.saved = 0
        self.children: dict[bytes, Node] = {}
        self.keys: list[bytes] = []
        self.users = 0
        self.used = 0
        self.uses = 0
        self.generation = 0
        self.proved = 0
        self.resting = False
        self.pins = 0
        self.hint: Hint | None = None

    @property
    def length(self) -> int:
        """Pages on the edge."""
        return self.pages[0].size

    @property
    def level(self) -> int:
        """What its pages are worth by what was asked of them: a priority, or PASSED. Lower levels go first."""
        if self.hint is None:
            return ORDINARY
        return PASSED if self.hint.passed else self.hint.priority

    @property
    def idle(self) -> bool:
        """A leaf that no sequence stands on: what reclaim may take."""
        return not self.children and not self.users and self.parent is not None

    def add_child(self, key: bytes, child: "Node") -> None:
        """Hang a child below. Cost: O(log children) compares and one memmove."""
        self.children[key] = child
        insort(self.keys, key)

    def remove_child(self, key: bytes) -> None:
        """Cut a child off. Cost: as add_child."""
        del self.children[key]
        del self.keys[bisect_left(self.keys, key)]

    def neighbours(self, key: bytes) -> list["Node"]:
        """The children whose keys stand beside ``key``: one of them shares the longest prefix with it.

        Those behind one door stand side by side, for no door begins another.
        """
        at = bisect_left(self.keys, key)
        return [self.children[near] for near in self.keys[max(0, at - 1) : at + 1]]
