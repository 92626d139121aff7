"""The laws, executed for the tiers below the device."""

from collections.abc import Iterator

from infergc.heap.host import HostTier
from infergc.heap.keys import ROOT_BYTES, behind, keys_of, next_key
from infergc.heap.names import PageName
from infergc.heap.state import HeapState


def tier_violations(heap: HeapState) -> Iterator[str]:
    """Every law that the host tier breaks now. Cost: O(slots + pages of the prefix tree)."""
    if heap.tiers is None:
        return
    host = heap.tiers.host
    yield from _law_1_conservation(host)
    yield from _law_6_closed(heap, host)
    yield from _law_7_named(host)
    yield from _law_9_claims(host)


def _places(host: HostTier) -> list[tuple[bytes, int]]:
    return [*host.cached.items(), *host.held.items(), *host.arriving.items()]


def _law_1_conservation(host: HostTier) -> Iterator[str]:
    free, taken = host.space.free_pages(), [slot for _, slot in _places(host)]
    if sorted([*free, *taken]) != list(range(host.space.capacity)):
        yield "law 1: the slots of the host tier are not each either free or taken once"
    if len(free) != host.space.free:
        yield f"law 1: the host tier counts {host.space.free} slots free, its masks hold {len(free)}"
    if any(host.names[slot] is not None for slot in free):
        yield "law 1: a free slot of the host tier has a name"


def _law_6_closed(heap: HeapState, host: HostTier) -> Iterator[str]:
    """What may be let go has what stands before it in some tier: on the device, here, or on its way here.

    Above a disk tier it is not demanded: what is being written is kept page by page, and the disk may lose pages. What
    hangs on nothing then does no harm, and goes in its turn.
    """
    assert heap.tiers is not None
    on_device: set[bytes] = set()
    keys_of_node = {root.id: root.digests for root in heap.tree.roots.values()}
    for node in heap.tree.nodes():  # parents first
        assert node.parent is not None
        before = behind(keys_of_node[node.parent.id][-1], node.door)
        keys = keys_of_node[node.id] = keys_of(before, node.tokens.view(), heap.page_tokens)
        on_device.update(keys)
        if node.digests != keys[: len(node.digests)]:
            yield f"law 6: node {node.id} has keys that are not those of its tokens"
    for key, slot in host.cached.items() if heap.tiers.disk is None else ():
        name = host.names[slot]
        if name is None or len(name.before) == ROOT_BYTES:
            continue
        if not (name.before in on_device or name.before in host):
            yield f"law 6: the page in slot {slot} of the host tier hangs on nothing: {key.hex()}"


def _law_7_named(host: HostTier) -> Iterator[str]:
    for key, slot in _places(host):
        name = host.names[slot]
        if not isinstance(name, PageName) or name.key != key or next_key(name.before, name.tokens) != key:
            yield f"law 7: slot {slot} of the host tier does not hold the page that its key names"


def _law_9_claims(host: HostTier) -> Iterator[str]:
    if len(host.claims) > host.space.capacity or min(host.claims.values(), default=1) < 1:
        yield f"law 9: {len(host.claims)} pages are claimed of the host tier, which has {host.space.capacity} slots"
    if any(key in host.cached for key in host.claims) or not host.held.keys() <= host.claims.keys():
        yield "law 9: what is claimed of the host tier and what it holds on to differ"
    if not host.arriving.keys() <= host.claims.keys():
        yield "law 9: a page on its way to the host tier is not claimed"
