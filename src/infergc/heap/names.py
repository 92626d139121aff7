"""Pages of a prefix by name, as tiers below the device know them."""

from collections.abc import Iterator
from typing import NamedTuple

from infergc.heap.keys import behind, key_before, keys_in, next_key
from infergc.heap.nodes import I32, Namespace, Node


class PageName(NamedTuple):
    """Which page of which prefix: its key, what that was made under, and its token ids, int32."""

    key: bytes
    before: bytes
    tokens: bytes


def names_in(node: Node, first: int, end: int) -> Iterator[PageName]:
    """The pages ``first`` to ``end`` - 1 of a node's edge. Cost: as ``keys_in``, and under 1 µs a page."""
    keys, tokens = keys_in(node), node.tokens.view()
    size = len(tokens) // node.length
    for page in range(first, end):
        before = keys[page - 1] if page else key_before(node)
        yield PageName(keys[page], before, tokens[page * size : (page + 1) * size].tobytes())


def names_behind(
    before: bytes, tokens: I32, page_tokens: int, namespace: Namespace, first: int = 0
) -> Iterator[PageName]:
    """The whole pages of a stream from page number ``first`` on, which follows the page of this key.

    Args:
        before: see above.
        tokens: from that page on.
        page_tokens: P.
        namespace: of the stream.
        first: see above.

    Cost: about 2 µs a page.
    """
    for number, low in enumerate(range(0, len(tokens) - page_tokens + 1, page_tokens), first):
        page = tokens[low : low + page_tokens].tobytes()
        before = behind(before, namespace.door(number))
        key = next_key(before, page)
        yield PageName(key, before, page)
        before = key
