"""Keys of pages below the device: a chained digest names a page together with all before it, in its namespace.

Unlike marks (``heap.marks``) keys decide what is looked at, so nobody may be able to make two prefixes with one key:
they are BLAKE2b (RFC 7693) of the page's token ids under the key of the page before it; behind public pages, under that
of the tenant's door. A hit compares the token ids as well, page by page from the root (law 7).
"""

from hashlib import blake2b

from infergc.heap.nodes import I32, Namespace, Node

KEY_BYTES = 16
ROOT_BYTES = 32  # longer than others, so that a page is seen to be the first of its namespace, or behind a door


def root_key(namespace: Namespace) -> bytes:
    """What the keys of a namespace begin with; where they begin publicly, all tenants' alike. Cost: a hash."""
    model, salt = namespace.model.encode(), b"" if namespace.public else namespace.salt.encode()
    person = b"public" if namespace.public else b""
    return blake2b(b"%d:%b%b" % (len(model), model, salt), digest_size=ROOT_BYTES, person=person).digest()


def behind(before: bytes, door: bytes) -> bytes:
    """What the key of a page is made under that follows the page ``before``, behind a door if there is one."""
    return blake2b(door, digest_size=ROOT_BYTES, key=before).digest() if door else before


def next_key(before: bytes, tokens: bytes) -> bytes:
    """The key of a page with these token ids, int32, behind a page with the key ``before``. Cost: about 1 µs."""
    return blake2b(tokens, digest_size=KEY_BYTES, key=before).digest()


def keys_of(before: bytes, tokens: I32, page_tokens: int) -> list[bytes]:
    """The keys of the whole pages of ``tokens``, which follow the page ``before``. Cost: about 1 µs a page."""
    found = []
    for low in range(0, len(tokens) - page_tokens + 1, page_tokens):
        before = next_key(before, tokens[low : low + page_tokens].tobytes())
        found.append(before)
    return found


def keys_in(node: Node) -> list[bytes]:
    """The keys of a node's pages, worked out for those that have none yet; a root's is that of its namespace.

    Cost: O(depth) where some are missing, and about 1 µs a page, once for each.
    """
    for one in reversed(_without_keys(node)):
        done, size = len(one.digests), one.tokens.size // one.length
        before = one.digests[-1] if done else key_before(one)
        one.digests += keys_of(before, one.tokens.view()[done * size :], size)
    return node.digests


def key_before(node: Node) -> bytes:
    """What the key of a node's first page is made under; its parent has its keys."""
    assert node.parent is not None
    return behind(node.parent.digests[-1], node.door)


def _without_keys(node: Node) -> list[Node]:
    """The nodes up from this one that lack keys, it first. Above a node that has all of its, all have."""
    found: list[Node] = []
    one = node
    while one.parent is not None and len(one.digests) < one.length:
        found.append(one)
        one = one.parent
    return found
