"""What keeps cached prefixes because somebody asked for it: pins, which hold their pages, and hints, which do not."""

import numpy as np

from infergc.heap.holdings import Holdings
from infergc.heap.moves import I32
from infergc.heap.nodes import Namespace, Node
from infergc.heap.objects import Pin, TokenLog
from infergc.heap.pages import runs_of
from infergc.heap.provenance import Place, taken_by


class Keeping(Holdings):
    """The part of the heap that keeps what requests ask it to keep."""

    def tick(self, now: int) -> None:
        """The time is ``now``, in seconds: an input of the run. Cost: as ``Hints.tick``."""
        self.tree.hints.tick(now)

    def cached(self, namespace: Namespace, tokens: I32) -> Node | None:
        """Where the whole pages end that the prefix tree has of these tokens; None if it has none.

        Cost: O(tokens matched) compares in arrays, O(edges) calls, O(edge) array work where one is split.
        """
        if namespace.origin not in self.tree.roots:
            return None
        match = self.tree.match(namespace, tokens, len(tokens))
        return self.tree.settle(match.node, match.into, self.planning) if match.pages else None

    def found(self, namespace: Namespace, tokens: I32) -> int:
        """How many leading tokens the prefix tree has in whole pages. Cost: O(tokens matched) compares in arrays."""
        if not self.config.prefix_caching or namespace.origin not in self.tree.roots:
            return 0
        return self.tree.match(namespace, tokens, len(tokens)).pages * self.page_tokens

    def hint(self, tip: Node, found: int, priority: int, ttl: int | None) -> None:
        """Ask something of the pages from a namespace's root down to a node, see ``Hints.give``.

        Args:
            tip: the last node.
            found: leading pages that were there before the request that asks.
            priority: 0 to 100.
            ttl: seconds, None for no end.

        Cost: O(edges log hints), O(edge) array work where one is split.
        """
        low = 0
        for node in self.tree.path(tip):
            own = node
            if low < found < low + node.length:  # a leaf that the request lengthened
                upper = self.tree.settle(node, found - low, self.planning)
                self.tree.hints.give(upper, priority, ttl, own=False)
                low += upper.length
            self.tree.hints.give(own, priority, ttl, own=low >= found)
            low += own.length

    def pin(self, owner: str, namespace: Namespace, tip: Node) -> Pin | None:
        """Hold the pages from the namespace's root down to a node; None if that is over the budget.

        The pin has one root. It holds a page of every layer group for each page of its path, as the tree does, so
        nothing of it is reclaimed. A page counts once in the budget, however many pins hold it.
        Cost: O(edges + extents), O(pages) array work.
        """
        path = self.tree.path(tip)
        fresh = sum(node.length for node in path if not node.pins)
        if self.pinned + fresh > self.pin_budget:
            return None
        tokens = TokenLog(np.concatenate([node.tokens.view() for node in path]))
        pages = tokens.size // self.page_tokens
        pin = Pin(self._new_id(), owner, -1, namespace, tokens, tip, pages, publishing=False)
        pin.parked = tuple(
            runs_of(np.concatenate([node.pages[group].view() for node in path])) for group in range(len(self.groups))
        )
        for held, extents in zip(self.groups, pin.parked, strict=True):
            held.retain(extents, taken_by(pin.id, Place.PIN))
        for node in path:
            node.pins += 1
        self.pinned += fresh
        self.graph.add(pin)
        self.sequences[pin.id] = pin
        self.tree.enter(tip, self.planning)
        return pin

    def unpin(self, pin: Pin) -> None:
        """Drop a pin's root: its pages are cached like others. Cost: O(edges + extents)."""
        self.graph.unroot(pin)
