"""Which node of the prefix tree holds a page: the way back from a page number, for whoever moves the page."""

import numpy as np
from numpy.typing import NDArray

from infergc.heap.nodes import I32, Node


class PageIndex:
    """Per layer group, the id of the node that holds each page; entries of pages the tree does not hold are stale.

    It is kept where pages come to a node: when they are published, and when an edge is split. That is one assignment
    of an array a group; to find a page's node by search would cost the whole tree.
    Memory: 8 bytes a page.
    """

    def __init__(self, capacities: tuple[int, ...]) -> None:
        self._ids: tuple[NDArray[np.int64], ...] = tuple(np.full(pages, -1, np.int64) for pages in capacities)
        self._nodes: dict[int, Node] = {}

    def enter(self, node: Node, pages: tuple[I32, ...]) -> None:
        """These pages of each group are on the node's edge from now on. Cost: O(pages) array work."""
        self._nodes[node.id] = node
        for ids, numbers in zip(self._ids, pages, strict=True):
            ids[numbers] = node.id

    def moved(self, group: int, node: Node, pages: I32) -> None:
        """Some pages of the node's edge have these numbers now. Cost: O(pages) array work."""
        self._ids[group][pages] = node.id

    def leave(self, node: Node) -> None:
        """The node is in the tree no longer. Cost: O(1)."""
        del self._nodes[node.id]

    def ids(self, group: int, pages: I32) -> NDArray[np.int64]:
        """The ids of the nodes that hold these pages. Cost: O(pages) array work."""
        return self._ids[group][pages]

    def nodes(self, group: int, pages: I32) -> list[Node]:
        """The nodes that hold these pages, which the tree does hold, by id. Cost: O(pages log pages)."""
        return [self._nodes[number] for number in sorted(set(self.ids(group, pages).tolist()))]

    def __len__(self) -> int:
        return len(self._nodes)
