"""Pages of a prefix by name, as tiers below the device know them."""

from collections.abc import Iterator
from typing import NamedTuple

from infergc.heap.keys import keys_in, next_key
from infergc.heap.nodes import I32, Node


class PageName(NamedTuple):
    """Which page of which prefix: its key, the key of the page before it, and its token ids, int32."""

    key: bytes
    before: bytes
    tokens: bytes


def names_in(node: Node, first: int, end: int) -> Iterator[PageName]:
    """The pages ``first`` to ``end`` - 1 of a node's edge. Cost: as ``keys_in``, and under 1 µs a page."""
    keys, tokens = keys_in(node), node.tokens.view()
    size = len(tokens) // node.length
    assert node.parent is not None
    for page in range(first, end):
        before = keys[page - 1] if page else node.parent.digests[-1]
        yield PageName(keys[page], before, tokens[page * size : (page + 1) * size].tobytes())


def names_behind(before: bytes, tokens: I32, page_tokens: int) -> Iterator[PageName]:
    """The whole pages of a stream that goes on with ``tokens`` behind the page of this key. Cost: about 2 µs a page."""
    for low in range(0, len(tokens) - page_tokens + 1, page_tokens):
        page = tokens[low : low + page_tokens].tobytes()
        key = next_key(before, page)
        yield PageName(key, before, page)
        before = key
