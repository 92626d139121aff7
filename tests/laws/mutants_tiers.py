"""Planted bugs in the tiers below the device, and on the ways between them."""

from typing import Any

import numpy as np

from infergc.heap import keys as keys_module
from infergc.heap import names as names_module
from infergc.heap.disk import DiskTier
from infergc.heap.heap import Heap
from infergc.heap.host import HostTier
from infergc.heap.nodes import Node
from infergc.heap.tiers import Tiers
from infergc.heap.tree import PrefixTree
from laws.mutants import Patch, around, mutant

# ---- law 1: conservation


@mutant(1, "host-16")
def a_slot_that_was_let_go_is_not_free(patch: Patch) -> None:
    patch.setattr(HostTier, "_free", lambda host, slot: host.names.__setitem__(slot, None))


@mutant(1, "disk-16")
def the_half_of_a_split_node_is_never_written(patch: Patch) -> None:
    def inherit(original: Any, tree: PrefixTree, upper: Node, node: Node, step: int) -> None:
        original(tree, upper, node, step)
        tree.unsaved.pop(upper.id, None)

    around(patch, PrefixTree, "_inherit", inherit)


@mutant(1, "disk-16")
def what_is_added_to_a_node_that_was_written_is_forgotten(patch: Patch) -> None:
    def extend(original: Any, tree: PrefixTree, tip: Node, *rest: Any) -> Node:
        known = tip.id in tree.unsaved
        node: Node = original(tree, tip, *rest)
        if node is tip and not known:
            tree.unsaved.pop(tip.id, None)
        return node

    around(patch, PrefixTree, "extend", extend)


# ---- law 5: epochs


@mutant(5, "disk-16")
def a_job_is_handed_over_before_its_step_was_launched(patch: Patch) -> None:
    around(patch, DiskTier, "jobs", lambda original, disk, completed: original(disk, completed + 9))


# ---- law 6: closed


@mutant(6, "host-16")
def what_was_used_last_goes_first(patch: Patch) -> None:
    def let_go(host: HostTier) -> None:
        _, slot = host.cached.popitem(last=True)
        host._free(slot)

    patch.setattr(HostTier, "_let_go", let_go)


@mutant(6, "host-16")
def a_prefix_is_filed_from_its_end(patch: Patch) -> None:
    def put(original: Any, host: HostTier, pages: Any) -> Any:
        slots = original(host, pages)
        for name in pages:
            if name.key in host.cached:
                host.cached.move_to_end(name.key)
        return slots

    around(patch, HostTier, "put", put)
    patch.setattr(HostTier, "use", lambda *_: None)


@mutant(6, "host-16")
def what_hangs_on_a_page_without_room_stays(patch: Patch) -> None:
    around(patch, HostTier, "put", lambda original, host, pages: original(host, pages[: host.room_for(pages)]))


@mutant(6, "host-16")
def a_split_node_keeps_the_keys_of_both_halves(patch: Patch) -> None:
    def settle(original: Any, tree: PrefixTree, node: Node, into: int, step: int) -> Node:
        keys = list(node.digests)
        upper: Node = original(tree, node, into, step)
        if upper is not node:
            node.digests = keys
        return upper

    around(patch, PrefixTree, "settle", settle)


# ---- law 7: a hit is exact


@mutant(7, "host-sliding-8")
def the_finalizer_forgets_the_last_group(patch: Patch) -> None:
    def copy(original: Any, tiers: Tiers, kind: str, group: int, *rest: Any) -> None:
        if kind == "load" or group == 0:
            original(tiers, kind, group, *rest)

    around(patch, Tiers, "_copy", copy)


@mutant(7, "host-16")
def loads_are_made_before_stores(patch: Patch) -> None:
    def take_moves(original: Any, heap: Heap) -> Any:
        return tuple(sorted(original(heap), key=lambda move: move.kind != "load"))

    around(patch, Heap, "take_moves", take_moves)


@mutant(7, "host-16")
def pages_are_loaded_from_their_neighbours_slots(patch: Patch) -> None:
    def copy(original: Any, tiers: Tiers, kind: str, group: int, pages: Any, slots: Any) -> None:
        original(tiers, kind, group, pages, np.roll(slots, 1) if kind == "load" else slots)

    around(patch, Tiers, "_copy", copy)


@mutant(7, "host-16")
def runs_are_cut_where_pages_alone_are_apart(patch: Patch) -> None:
    def copy(original: Any, tiers: Tiers, kind: str, group: int, pages: Any, slots: Any) -> None:
        original(tiers, kind, group, pages, slots[0] + np.arange(len(slots), dtype=np.int32) if len(slots) else slots)

    around(patch, Tiers, "_copy", copy)


@mutant(7, "host-16")
def keys_are_not_chained(patch: Patch) -> None:
    for module in (keys_module, names_module):
        around(patch, module, "next_key", lambda original, _, tokens: original(b"", tokens))


@mutant(7, "host-16")
def tenants_share_their_keys(patch: Patch) -> None:
    around(patch, keys_module, "root_key", lambda original, namespace: original(type(namespace)(namespace.model)))


@mutant(7, "disk-16")
def a_page_that_could_not_be_read_is_taken_for_there(patch: Patch) -> None:
    around(patch, HostTier, "arrived", lambda original, host, key, **_: original(host, key, well=True))


# ---- law 9: all or nothing


@mutant(9, "host-16")
def a_claim_is_not_given_back(patch: Patch) -> None:
    patch.setattr(HostTier, "unclaim", lambda *_: None)


@mutant(9, "host-16")
def two_claims_are_one(patch: Patch) -> None:
    def claim(original: Any, host: HostTier, keys: Any) -> bool:
        return bool(original(host, [key for key in keys if key not in host.claims]))

    around(patch, HostTier, "claim", claim)


@mutant(9, "host-16")
def what_is_claimed_may_be_let_go(patch: Patch) -> None:
    def file(host: HostTier, key: bytes, slot: int) -> None:
        host.cached[key] = slot

    patch.setattr(HostTier, "_file", file)


@mutant(9, "host-16")
def more_is_claimed_than_there_is_room_for(patch: Patch) -> None:
    def claim(original: Any, host: HostTier, keys: Any) -> bool:
        capacity, host.space.capacity = host.space.capacity, 1 << 20
        claimed: bool = original(host, keys)
        host.space.capacity = capacity
        return claimed

    around(patch, HostTier, "claim", claim)


@mutant(9, "disk-16")
def what_is_to_be_written_is_not_claimed(patch: Patch) -> None:
    def write(original: Any, disk: DiskTier, names: Any, step: int) -> None:
        original(disk, names, step)
        disk._host.unclaim([name.key for name in names])

    around(patch, DiskTier, "write", write)


@mutant(9, "disk-16")
def a_read_that_is_over_goes_on_to_be_one(patch: Patch) -> None:
    def has_read(original: Any, disk: DiskTier, number: int, found: Any) -> Any:
        keys = original(disk, number, found)
        disk.reading.update(dict.fromkeys(keys, number))
        return keys

    around(patch, DiskTier, "has_read", has_read)
