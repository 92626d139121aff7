"""The prefix tree: which pages hold the KV of which token prefix, by exact token ids.

Law 6: pages hang on a chain of edges from their namespace's root, one page of every layer group for each
page of an edge, and go leaf first; so every ancestor of a cached page is cached or live.
Law 7: a match compares token ids inside one namespace; no hash decides. Public pages are shared by all, and what hangs
below them hangs behind a door: its key begins with the tenant's salt.
P is page_tokens.
"""

from collections import OrderedDict
from dataclasses import dataclass

import numpy as np

from infergc.heap.generations import Generations
from infergc.heap.hints import Hints
from infergc.heap.keys import root_key
from infergc.heap.marks import seed_of
from infergc.heap.nodes import I32, U64, Namespace, Node
from infergc.heap.objects import Sequence
from infergc.heap.page_index import PageIndex
from infergc.heap.retention import ReclaimOrder, Retention


@dataclass(slots=True)
class Match:
    """The longest known prefix of a token stream.

    Attributes:
        node: where the match ends; ``into`` pages of its edge belong to it.
        pages: pages matched in all.
        partial: a page whose first ``partial_tokens`` tokens go on with the stream, as (node, page of its edge).
    """

    node: Node
    into: int
    pages: int
    partial: tuple[Node, int] | None = None
    partial_tokens: int = 0


class PrefixTree:
    """A radix tree per namespace over whole pages. It holds pages' numbers; the heap keeps their counts.

    Args:
        page_tokens: P.
        capacities: pages that exist, one number a layer group.
        retention: says which idle leaves go first; has begun.
        generations: where nodes are registered as they are born.

    Attributes:
        unsaved: nodes with pages that the disk tier was not given, oldest change first, by id.
    """

    def __init__(
        self, page_tokens: int, capacities: tuple[int, ...], retention: Retention, generations: Generations
    ) -> None:
        self.page_tokens = page_tokens
        self.roots: dict[Namespace, Node] = {}
        self._namespaces: dict[int, Namespace] = {}  # by the root's id
        self.order = ReclaimOrder(retention)
        self.hints = Hints(self.order)
        self.generations = generations
        self.index = PageIndex(capacities)
        self.unsaved: OrderedDict[int, Node] = OrderedDict()
        self._groups = len(capacities)
        self._next_id = 0

    def root(self, namespace: Namespace) -> Node:
        """The root that the namespace's pages hang on, made on first use. Cost: O(1)."""
        namespace = namespace.origin
        if namespace not in self.roots:
            empty = np.empty(0, np.int32)
            root = self.roots[namespace] = self._make(None, empty, (empty,) * self._groups)
            root.marks.extend(np.array([seed_of(namespace)], np.uint64))
            root.digests.append(root_key(namespace))
            self._namespaces[root.id] = namespace
        return self.roots[namespace]

    def match(self, namespace: Namespace, tokens: I32, limit: int) -> Match:
        """Find the longest prefix of ``tokens[:limit]`` whose pages are known; ``limit`` may exceed the tokens.

        Cost: O(tokens matched) compares in arrays, O(edges) calls, O(log children) for the part of a page.
        """
        node = self.root(namespace)
        done, limit = 0, min(limit, len(tokens))
        while (child := self._step(namespace, node, tokens, done, limit)) is not None:
            into = self.common_pages(namespace, child, tokens, done, limit)
            node, done = child, done + into
            if into < child.length:
                rest = [] if done == namespace.public else [(child, into)]  # behind the last public page is a door
                return self._with_partial(Match(child, into, done), rest, tokens, limit)
        low, door = done * self.page_tokens, namespace.door(done)
        key = door + tokens[low : low + self.page_tokens].tobytes()
        nearest = [(child, 0) for child in node.neighbours(key) if child.door == door]
        return self._with_partial(Match(node, node.length, done), nearest, tokens, limit)

    def path(self, node: Node) -> list[Node]:
        """The nodes from below the root down to ``node``. Cost: O(depth)."""
        chain: list[Node] = []
        while node.parent is not None:
            chain.append(node)
            node = node.parent
        return chain[::-1]

    def key(self, node: Node) -> bytes:
        """Under what the parent holds the node: its door and its first page's tokens. Cost: O(P)."""
        return node.door + node.tokens.view()[: self.page_tokens].tobytes()

    def settle(self, node: Node, into: int, step: int) -> Node:
        """The node whose edge ends after ``into`` pages of this one, splitting it if need be.

        The lower half keeps the node's identity. Cost: O(edge) array work when it splits.
        """
        if into == node.length:
            return node
        assert node.parent is not None
        if into == 0:
            return node.parent
        key, parent = self.key(node), node.parent
        tokens = node.tokens.shift(into * self.page_tokens)
        upper = self._make(parent, tokens, tuple(column.shift(into) for column in node.pages), node.door)
        node.door = b""
        upper.marks.extend(node.marks.shift(min(into, node.marks.size)))
        upper.digests, node.digests = node.digests[:into], node.digests[into:]
        self._inherit(upper, node, step)
        parent.children[key] = upper
        node.parent = upper
        upper.add_child(self.key(node), node)
        return upper

    def serve(self, node: Node, step: int) -> None:
        """A request is served from here, or from below. Cost: O(1)."""
        node.uses += 1
        self.hints.used(node)
        if node.resting:
            node.resting = False
            self.generations.enter(node, step)

    def extend(
        self, tip: Node, tokens: I32, pages: tuple[I32, ...], step: int, marks: U64 | None = None, door: bytes = b""
    ) -> Node:
        """Hang new pages below ``tip``, on its own edge if only one sequence stands there, and return the new tip.

        What was asked of a node's pages is not asked of those that follow. ``marks`` are those of the first of these
        pages, as far as they are known. Behind a ``door`` an edge begins. The caller moves its stand to the returned
        node. Cost: O(pages) amortised.
        """
        if tip.users == 1 and not tip.children and tip.parent is not None and tip.hint is None and not door:
            if marks is not None and tip.marks.size == tip.length:
                tip.marks.extend(marks)
            tip.tokens.extend(tokens)
            for column, new in zip(tip.pages, pages, strict=True):
                column.extend(new)
            self.index.enter(tip, pages)
            self.unsaved[tip.id] = tip
            return tip
        child = self._make(tip, tokens, pages, door)
        if marks is not None and tip.marks.size == max(1, tip.length):  # a root has one, its seed
            child.marks.extend(marks)
        tip.add_child(self.key(child), child)
        self.generations.enter(child, step)
        self.unsaved[child.id] = child
        return child

    def enter(self, node: Node, step: int) -> None:
        """A sequence's sealed prefix ends here from now on. Cost: O(1)."""
        node.users += 1
        node.used = step

    def leave(self, node: Node, step: int) -> None:
        """A sequence stands here no longer. Cost: O(log leaves)."""
        node.users -= 1
        node.used = step
        self._settle_idle(node)

    def stand(self, sequence: Sequence, node: Node, sealed: int, step: int) -> None:
        """Move the place where a sequence's sealed prefix ends. Cost: O(log leaves)."""
        if node is not sequence.tip:
            self.enter(node, step)
            self.leave(sequence.tip, step)
        sequence.tip, sequence.sealed = node, sealed

    def unstand(self, sequence: Sequence, sealed: int, step: int) -> None:
        """Step back along the tree until at most ``sealed`` pages of the sequence are sealed. Cost: O(edges)."""
        node, end = sequence.tip, sequence.sealed
        while end > sealed and node.parent is not None and end - node.length >= sealed:
            node, end = node.parent, end - node.length
        if end > sealed:
            node, end = self.settle(node, node.length - (end - sealed), step), sealed
        self.stand(sequence, node, end, step)

    def trim(self, leaf: Node, pages: int) -> tuple[I32, ...]:
        """Cut the last pages off a leaf's edge and return them by group; an empty leaf goes. Cost: O(pages)."""
        key = self.key(leaf)
        leaf.tokens.drop(pages * self.page_tokens)
        leaf.marks.drop(max(0, leaf.marks.size - leaf.length + pages))
        del leaf.digests[leaf.length - pages :]
        removed = tuple(column.drop(pages) for column in leaf.pages)
        leaf.saved = min(leaf.saved, leaf.length)
        if leaf.length:
            self.order.offer(leaf)
        elif leaf.parent is not None:
            parent = leaf.parent
            parent.remove_child(key)
            self.index.leave(leaf)
            self.generations.leave(leaf)
            self.unsaved.pop(leaf.id, None)
            parent.used = max(parent.used, leaf.used)
            self._settle_idle(parent)
        return removed

    def child(self, namespace: Namespace, node: Node, tokens: I32, page: int) -> Node | None:
        """The child whose edge begins with the stream's page number ``page``, of this namespace. Cost: O(P)."""
        low = page * self.page_tokens
        return node.children.get(namespace.door(page) + tokens[low : low + self.page_tokens].tobytes())

    def nodes(self) -> list[Node]:
        """Every node but the roots, parents first. Cost: O(nodes)."""
        found: list[Node] = []
        front = list(self.roots.values())
        while front:
            node = front.pop()
            front.extend(node.children.values())
            if node.parent is not None:
                found.append(node)
        return found

    def _settle_idle(self, node: Node) -> None:
        """Offer an idle leaf for reclaim; forget a namespace that nothing uses."""
        if node.parent is None and not node.children and not node.users:
            del self.roots[self._namespaces.pop(node.id)]
        else:
            self.order.offer(node)

    def _step(self, namespace: Namespace, node: Node, tokens: I32, done: int, limit: int) -> Node | None:
        if (done + 1) * self.page_tokens > limit:
            return None
        return self.child(namespace, node, tokens, done)

    def common_pages(self, namespace: Namespace, node: Node, tokens: I32, page: int, limit: int) -> int:
        """Leading pages of the edge that equal ``tokens[:limit]`` from page ``page`` on, and the namespace shares.

        Cost: O(tokens compared).
        """
        low = page * self.page_tokens
        most = namespace.alike(page, min(limit - low, node.tokens.size) // self.page_tokens + page) - page
        span = most * self.page_tokens
        return shared_tokens(node.tokens.view()[:span], tokens[low : low + span]) // self.page_tokens

    def _with_partial(self, match: Match, places: list[tuple[Node, int]], tokens: I32, limit: int) -> Match:
        low = match.pages * self.page_tokens
        rest = tokens[low : min(limit, low + self.page_tokens)]
        for node, page in places:
            at = page * self.page_tokens
            shared = shared_tokens(node.tokens.view()[at : at + len(rest)], rest)
            if shared > match.partial_tokens:
                match.partial, match.partial_tokens = (node, page), shared
        return match

    def _inherit(self, upper: Node, node: Node, step: int) -> None:
        """The upper half of a node that is split has had the same history, and is looked at an age from now."""
        upper.used, upper.uses = node.used, node.uses
        upper.generation, upper.proved, upper.resting = node.generation, node.proved, node.resting
        upper.pins = node.pins
        upper.saved, node.saved = min(node.saved, upper.length), max(0, node.saved - upper.length)
        if node.id in self.unsaved:
            self.unsaved[upper.id] = upper
        self.hints.inherit(upper, node)
        if not upper.resting:
            self.generations.enter(upper, step)

    def _make(self, parent: Node | None, tokens: I32, pages: tuple[I32, ...], door: bytes = b"") -> Node:
        node = Node(self._next_id, parent, tokens, pages, door)
        self._next_id += 1
        if parent is not None:
            self.index.enter(node, pages)
        return node


def shared_tokens(one: I32, other: I32) -> int:
    """Length of the common prefix of two arrays of equal length. Cost: O(tokens)."""
    if not len(one):
        return 0
    differ = one != other
    first = int(differ.argmax())
    return first if differ[first] else len(one)
