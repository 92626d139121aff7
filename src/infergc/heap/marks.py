"""Fingerprints of prefixes: what policies remember of text that the tree does not hold any more.

A mark stands for a page's tokens and all before them, in its namespace: 64 bits, the sum of a mix of each page's tokens
and place. Two prefixes with one mark are told apart nowhere, so a mark decides what is kept, never what is a hit
(law 7). The constants are those of splitmix64 (Steele, Lea and Flood, OOPSLA 2014).
"""

from functools import cache
from hashlib import blake2b

import numpy as np

from infergc.heap.nodes import I32, U64, Namespace, Node

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def seed_of(namespace: Namespace) -> int:
    """What the marks of a namespace begin with; where they begin publicly, all tenants' alike. Cost: a hash."""
    names = f"{namespace.model}\n" if namespace.public else f"{namespace.model}\n{namespace.salt}"
    return _hash(names.encode(), b"public" if namespace.public else b"")


def _hash(name: bytes, person: bytes) -> int:
    return int.from_bytes(blake2b(name, digest_size=8, person=person).digest(), "big")


def _behind(door: bytes) -> U64:
    """What is added to the marks of all pages behind a door, [1]: an array's sums go round."""
    return np.array([_hash(door, b"door") if door else 0], np.uint64)


def marks_of(tokens: I32, page_tokens: int, before: int, first: int) -> U64:
    """The marks of pages that follow each other.

    Args:
        tokens: of the pages, [pages × page_tokens].
        page_tokens: P, even.
        before: the mark of the page before them, or ``seed_of`` the namespace.
        first: how many pages stand before them.

    Returns:
        [pages]. Cost: O(tokens) array work.
    """
    pairs = np.ascontiguousarray(tokens).view(np.uint64).reshape(-1, page_tokens // 2)
    places = np.arange(first + 1, first + 1 + len(pairs), dtype=np.uint64)
    mixed = _mix(pairs @ _weights(page_tokens // 2) + places * _GOLDEN)
    return np.cumsum(mixed, dtype=np.uint64) + np.uint64(before)


def marks_of_prompt(namespace: Namespace, prompt: I32, page_tokens: int) -> U64:
    """The marks of a prompt's whole pages, [pages]. Cost: O(tokens) array work."""
    whole = len(prompt) // page_tokens * page_tokens
    marks = marks_of(prompt[:whole], page_tokens, seed_of(namespace), 0)
    marks[namespace.public :] += _behind(namespace.door(namespace.public))
    return marks


def marks_in(node: Node) -> U64:
    """The marks of a node's pages, worked out for those that have none yet.

    Returns:
        [pages]; valid until the node changes. Cost: O(depth), and O(tokens) array work for each page once.
    """
    for one, parent in reversed(_unmarked(node)):
        done, size = one.marks.size, one.tokens.size // one.length
        before = one.marks.view()[-1] if done else (parent.marks.view()[-1:] + _behind(one.door))[0]
        one.marks.extend(marks_of(one.tokens.view()[done * size :], size, int(before), _depth(one) + done))
    return node.marks.view()


def _unmarked(node: Node) -> list[tuple[Node, Node]]:
    """The nodes up from this one that have pages without marks, and their parents, it first.

    A root has its seed. Above a node that has all its marks, all have.
    """
    found: list[tuple[Node, Node]] = []
    while node.parent is not None and node.marks.size < node.length:
        found.append((node, node.parent))
        node = node.parent
    return found


def _depth(node: Node) -> int:
    """Pages above the node."""
    pages, one = 0, node.parent
    while one is not None:
        pages, one = pages + one.length, one.parent
    return pages


@cache
def _weights(count: int) -> U64:
    return _mix(np.arange(1, count + 1, dtype=np.uint64) * _GOLDEN) | np.uint64(1)


def _mix(values: U64) -> U64:
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: U64 = values ^ (values >> np.uint64(31))
    return mixed
